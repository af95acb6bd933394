import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/** What a BI tool does by JDBC: it looks around, asks with a parameter, and is refused what it may not do. */
public class JdbcReader {
    public static void main(String[] arguments) throws Exception {
        try (Connection connection = DriverManager.getConnection(arguments[0], "bi", "")) {
            int tables = 0;
            try (ResultSet found = connection.getMetaData().getTables(null, "ebbtide", "%", null)) {
                while (found.next()) {
                    tables++;
                }
            }
            System.out.println("tables " + tables);
            StringBuilder comment = new StringBuilder();
            try (ResultSet found = connection.getMetaData().getColumns(null, "ebbtide", "sessions", "lost_stage")) {
                while (found.next()) {
                    comment.append(found.getString("REMARKS"));
                }
            }
            System.out.println("comment " + comment);
            try (PreparedStatement asked = connection.prepareStatement(
                    "SELECT count() AS n FROM sessions FINAL WHERE shop_id = ?")) {
                asked.setString(1, "s1");
                try (ResultSet found = asked.executeQuery()) {
                    found.next();
                    System.out.println("sessions " + found.getLong("n"));
                }
            }
            try (Statement statement = connection.createStatement()) {
                statement.execute("TRUNCATE TABLE sessions");
                System.out.println("truncated");
            } catch (SQLException refused) {
                System.out.println("refused " + refused.getMessage().replace('\n', ' '));
            }
        }
    }
}
