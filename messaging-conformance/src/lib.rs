//! The delivery contract as code.

#![warn(missing_docs)]

pub mod checker;
mod factory;
mod failure;
pub mod history;
mod member;
mod metering;
mod script;
mod suite;
mod url;

pub use factory::{Cluster, Factory, Harm, Need, Pace, Route, Server, Sever};
pub use failure::{Checked, Failure};
pub use history::{History, Record, What};
pub use suite::{CHURN_SECONDS, Promise, SEED, World, churn, deaths, main, promises, run, tests};
pub use url::{Host, Hosts, UrlFactory, UrlFactoryBuilder, Way};
