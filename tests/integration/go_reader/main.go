// What Grafana's data source does: it looks around, asks with a parameter, and is refused what it may not do.
package main

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

func main() {
	compression := clickhouse.CompressionNone
	if len(os.Args) > 2 && os.Args[2] == "gzip" {
		compression = clickhouse.CompressionGZIP
	}
	database := clickhouse.OpenDB(&clickhouse.Options{
		Protocol:    clickhouse.HTTP,
		Addr:        []string{os.Args[1]},
		Auth:        clickhouse.Auth{Database: "ebbtide", Username: "bi"},
		Compression: &clickhouse.Compression{Method: compression},
		DialTimeout: 10 * time.Second,
	})
	if err := read(database); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(database *sql.DB) error {
	if err := database.Ping(); err != nil {
		return err
	}
	var tables uint64
	if err := database.QueryRow("SELECT count() FROM system.tables WHERE database = 'ebbtide'").Scan(&tables); err != nil {
		return err
	}
	fmt.Println("tables", tables)
	var comment string
	asked := "SELECT comment FROM system.columns WHERE table = 'sessions' AND name = 'lost_stage'"
	if err := database.QueryRow(asked).Scan(&comment); err != nil {
		return err
	}
	fmt.Println("comment", comment)
	rows, err := database.Query(
		"SELECT shop_id, lost_stage, started_at, cart_value, currency FROM sessions FINAL WHERE shop_id = ?", "s1")
	if err != nil {
		return err
	}
	sessions := 0
	for ; rows.Next(); sessions++ {
		var shop string
		var stage, currency *string
		var started time.Time
		var value any
		if err := rows.Scan(&shop, &stage, &started, &value, &currency); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	fmt.Println("sessions", sessions)
	if _, err := database.Exec("TRUNCATE TABLE sessions"); err != nil {
		fmt.Println("refused", strings.ReplaceAll(err.Error(), "\n", " "))
	} else {
		fmt.Println("truncated")
	}
	return nil
}
