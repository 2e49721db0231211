//! The orders service: takes orders over HTTP, keeps them in its own database, and announces what
//! happens to them as events on the topic `order-events`.
//!
//! A request goes downwards through the files: [`api`] → [`service`] → [`store`] and [`events`].
#![warn(missing_docs)]

pub mod api;
pub mod events;
pub mod order;
pub mod service;
pub mod startup;
pub mod store;
