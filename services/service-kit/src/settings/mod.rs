//! Settings: each is declared once as a [`Setting`], read from the environment or a settings file, and documented from
//! that declaration.

mod environment;
mod file;
mod setting;
mod topics;

pub use environment::{Environment, Origin};
pub use setting::{Setting, SettingError, help, markdown};
pub use topics::TopicSettings;
