//! Real brokers for tests.
