//! Attribute and derive macros of the `messaging` crate.
