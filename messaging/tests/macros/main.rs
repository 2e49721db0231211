//! What the macros' code does, where it compiles; what does not is in `ui`.

mod consumer;
mod event;
mod event_data;
mod message_handler;
