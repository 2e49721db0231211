//! Lists in pages.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;

use super::fields::QueryFields;

const DEFAULT_SIZE: u32 = 20;
const MAX_SIZE: u32 = 100;

/// Which part of a list is asked for: `?page=1&page_size=20`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    number: u32,
    size: u32,
}

/// A part of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PageOf<T> {
    /// The rows of this page, by ascending id.
    pub items: Vec<T>,
    /// How many rows there are on all pages.
    #[schema(example = 1)]
    pub total: i64,
    /// This page's number, from 1.
    #[schema(example = 1)]
    pub page: u32,
    /// How many rows a page holds.
    #[schema(example = 20)]
    pub page_size: u32,
}

impl Page {
    /// Reads `page` and `page_size`; wrong ones are kept as errors in `fields`.
    pub fn from_query(fields: &mut QueryFields) -> Self {
        let number = fields.parsed::<Bounded<{ u32::MAX }>>("page");
        let size = fields.parsed::<Bounded<MAX_SIZE>>("page_size");
        Self { number: number.map_or(1, |bounded| bounded.0), size: size.map_or(DEFAULT_SIZE, |bounded| bounded.0) }
    }

    /// How many rows to take.
    pub fn limit(self) -> i64 {
        self.size.into()
    }

    /// How many rows come before.
    pub fn offset(self) -> i64 {
        i64::from(self.number - 1) * i64::from(self.size)
    }

    /// This page with its rows.
    pub fn of<T>(self, items: Vec<T>, total: i64) -> PageOf<T> {
        PageOf { items, total, page: self.number, page_size: self.size }
    }
}

/// An integer from 1 to `MAX`.
struct Bounded<const MAX: u32>(u32);

/// The text was no integer from 1 to this.
struct OutOfBounds(u32);

impl fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "must be an integer from 1 to {}", self.0)
    }
}

impl<const MAX: u32> FromStr for Bounded<MAX> {
    type Err = OutOfBounds;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(number) if (1..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(OutOfBounds(MAX)),
        }
    }
}
