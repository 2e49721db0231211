//! The notifications service: hears what happens to orders, keeps a notification of each, sends it by e-mail, and shows
//! all of them over HTTP.
//!
//! An event goes downwards through the files: [`handlers`] → [`store`] → [`mailer`].
#![warn(missing_docs)]

pub mod api;
pub mod events;
pub mod handlers;
pub mod mailer;
pub mod notification;
pub mod startup;
pub mod store;
