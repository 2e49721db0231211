-- A database for each service, owned by a user of its own who cannot connect to the other's. Runs once, when the
-- server's data folder is made.

\getenv orders_password ORDERS_DB_PASSWORD
\getenv notifications_password NOTIFICATIONS_DB_PASSWORD

CREATE USER orders PASSWORD :'orders_password';
CREATE DATABASE orders OWNER orders;
REVOKE CONNECT ON DATABASE orders FROM PUBLIC;

CREATE USER notifications PASSWORD :'notifications_password';
CREATE DATABASE notifications OWNER notifications;
REVOKE CONNECT ON DATABASE notifications FROM PUBLIC;
