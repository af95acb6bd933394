-- Who may do what, where ClickHouse keeps users in SQL: run it once as an administrator, then give each role to a user,
-- as in: CREATE USER sink IDENTIFIED WITH sha256_password BY '…' HOST IP '10.0.0.0/8'; GRANT ebbtide_worker TO sink;
-- Connections are https:// in EBBTIDE_CLICKHOUSE, with ?ca_cert=PATH where the certificate is of your own authority.

-- `ebbtide migrate`: makes and changes tables and views of the one database.
CREATE ROLE IF NOT EXISTS ebbtide_migrate;
GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER, SELECT, INSERT ON ebbtide.* TO ebbtide_migrate;

-- The sink stores and erases; `ebbtide verify`, `report` and the others read.
CREATE ROLE IF NOT EXISTS ebbtide_worker;
GRANT SELECT, INSERT, ALTER DELETE, OPTIMIZE ON ebbtide.* TO ebbtide_worker;

-- BI tools, Grafana, the page.
CREATE SETTINGS PROFILE IF NOT EXISTS ebbtide_bi SETTINGS
    readonly = 2,
    max_execution_time = 30 MAX 120,
    max_memory_usage = 4000000000 MAX 8000000000,
    max_result_rows = 1000000 MAX 10000000;
CREATE ROLE IF NOT EXISTS ebbtide_bi SETTINGS PROFILE 'ebbtide_bi';
GRANT SELECT ON ebbtide.* TO ebbtide_bi;
