//! What an order is: types that can only hold valid values.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use service_kit::EmailAddress;
use utoipa::ToSchema;

/// An order as it is kept and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Order {
    /// Never given to another order, even after this one is deleted.
    #[schema(example = 1, minimum = 1)]
    pub id: i64,
    /// The customer, in the service of users.
    #[schema(example = 1, minimum = 1)]
    pub user_id: i64,
    /// Copied from the service of users, so that nobody has to ask it.
    #[schema(example = "user@example.com", format = Email)]
    pub user_email: String,
    /// The amount, with two decimals, as text: a JSON number would be a float to many readers.
    #[schema(value_type = String, example = "99.99")]
    pub total: Total,
    /// How far it has come.
    pub status: Status,
    /// When it was taken.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00Z")]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00Z")]
    pub updated_at: Timestamp,
}

/// What a customer says to place an order.
#[derive(Debug, Clone, ToSchema)]
pub struct OrderInput {
    /// The customer, in the service of users.
    #[schema(value_type = i64, example = 1, minimum = 1)]
    pub user_id: UserId,
    /// Where notifications go.
    #[schema(value_type = String, example = "user@example.com", format = Email)]
    pub user_email: EmailAddress,
    /// The amount, above zero, with at most two decimals, as text.
    #[schema(value_type = String, example = "99.99")]
    pub total: Total,
}

/// What shall change about an order; absent fields stay.
#[derive(Debug, Clone, ToSchema)]
pub struct OrderChanges {
    /// The customer, in the service of users.
    #[schema(value_type = Option<i64>, example = 1, minimum = 1, nullable = false)]
    pub user_id: Option<UserId>,
    /// Where notifications go.
    #[schema(value_type = Option<String>, example = "user@example.com", format = Email, nullable = false)]
    pub user_email: Option<EmailAddress>,
    /// The amount, above zero, with at most two decimals, as text.
    #[schema(value_type = Option<String>, example = "99.99", nullable = false)]
    pub total: Option<Total>,
}

impl From<OrderInput> for OrderChanges {
    fn from(input: OrderInput) -> Self {
        Self { user_id: Some(input.user_id), user_email: Some(input.user_email), total: Some(input.total) }
    }
}

/// How far an order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Placed.
    Pending,
    /// Completed and shipped.
    Completed,
}

impl Status {
    /// The status as the database and clients spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
        }
    }
}

/// The text names no [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be `pending` or `completed`")]
pub struct UnknownStatus;

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        match text {
            "pending" => Ok(Self::Pending),
            "completed" => Ok(Self::Completed),
            _ => Err(UnknownStatus),
        }
    }
}

/// A customer's id: a positive integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct UserId(i64);

impl UserId {
    /// The id as a number.
    pub fn get(self) -> i64 {
        self.0
    }
}

/// The number is no [`UserId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an integer from 1 to {}", i64::MAX)]
pub struct InvalidUserId;

impl TryFrom<i64> for UserId {
    type Error = InvalidUserId;

    fn try_from(id: i64) -> Result<Self, InvalidUserId> {
        if id > 0 { Ok(Self(id)) } else { Err(InvalidUserId) }
    }
}

/// What an order costs: above zero, in whole cents, up to [`Total::MAX`]. Text in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "Decimal")]
pub struct Total {
    cents: i64,
}

/// Why a text is not a [`Total`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTotal {
    /// No number such as 99.99.
    #[error("must be a decimal number such as \"99.99\"")]
    NotADecimal,
    /// Fractions of a cent.
    #[error("must have at most two decimals")]
    TooPrecise,
    /// Zero or less.
    #[error("must be greater than 0")]
    NotPositive,
    /// Above the ceiling.
    #[error("must be at most {}", Total::MAX)]
    TooLarge,
}

impl Total {
    /// The largest total that is believed.
    pub const MAX: Self = Self { cents: 9_999_999_999 };

    /// The amount in cents, as it is stored.
    pub fn cents(self) -> i64 {
        self.cents
    }

    /// The total of a stored row.
    pub(crate) fn from_cents(cents: i64) -> Self {
        Self { cents }
    }
}

impl FromStr for Total {
    type Err = InvalidTotal;

    fn from_str(text: &str) -> Result<Self, InvalidTotal> {
        // The decimal parser also takes `1_000`, `.5` and `+1`.
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.ends_with(|c: char| c.is_ascii_digit())
            && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
            && digits.matches('.').count() <= 1;
        if !plain {
            return Err(InvalidTotal::NotADecimal);
        }
        if digits.len() < text.len() {
            return Err(InvalidTotal::NotPositive);
        }
        // Of plain digits the parser refuses only too many of them.
        let amount = Decimal::from_str_exact(text).map_err(|error| match error {
            rust_decimal::Error::Underflow => InvalidTotal::TooPrecise,
            _ => InvalidTotal::TooLarge,
        })?;
        if amount <= Decimal::ZERO {
            return Err(InvalidTotal::NotPositive);
        }
        if amount.scale() > 2 {
            return Err(InvalidTotal::TooPrecise);
        }
        if amount > Decimal::from(Self::MAX) {
            return Err(InvalidTotal::TooLarge);
        }
        let cents = (amount * Decimal::ONE_HUNDRED).try_into().map_err(|_| InvalidTotal::TooLarge)?;
        Ok(Self { cents })
    }
}

impl TryFrom<String> for Total {
    type Error = InvalidTotal;

    fn try_from(text: String) -> Result<Self, InvalidTotal> {
        text.parse()
    }
}

impl From<Total> for Decimal {
    fn from(total: Total) -> Self {
        Self::new(total.cents, 2)
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal::from(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_shown_with_two_decimals() {
        for (given, shown) in [("99.99", "99.99"), ("10", "10.00"), ("0.5", "0.50"), ("0.01", "0.01"), ("007", "7.00")]
        {
            assert_eq!(given.parse::<Total>().unwrap().to_string(), shown);
        }
        assert_eq!(Total::MAX.to_string(), "99999999.99");
        assert_eq!(Total::MAX.to_string().parse(), Ok(Total::MAX));
    }

    #[test]
    fn a_total_is_text_in_json() {
        let total: Total = serde_json::from_str("\"99.9\"").unwrap();
        assert_eq!(serde_json::to_string(&total).unwrap(), "\"99.90\"");
        assert!(serde_json::from_str::<Total>("99.9").is_err());
    }

    #[test]
    fn what_is_no_amount_of_money_is_refused_with_its_reason() {
        use InvalidTotal::*;
        for (text, reason) in [
            ("", NotADecimal),
            ("-", NotADecimal),
            ("abc", NotADecimal),
            ("1e3", NotADecimal),
            ("1_000", NotADecimal),
            ("1,50", NotADecimal),
            (".5", NotADecimal),
            ("5.", NotADecimal),
            ("+5", NotADecimal),
            (" 5", NotADecimal),
            ("1.2.3", NotADecimal),
            ("NaN", NotADecimal),
            ("٣", NotADecimal),
            ("0", NotPositive),
            ("0.00", NotPositive),
            ("-1", NotPositive),
            ("0.001", TooPrecise),
            ("1.999", TooPrecise),
            ("1.00000000000000000000000000000000001", TooPrecise),
            ("100000000.00", TooLarge),
            ("99999999999999999999999999999999999999", TooLarge),
        ] {
            assert_eq!(text.parse::<Total>(), Err(reason), "{text:?}");
        }
    }

    #[test]
    fn user_ids_are_positive() {
        assert_eq!(UserId::try_from(1).map(UserId::get), Ok(1));
        assert_eq!(UserId::try_from(0), Err(InvalidUserId));
        assert_eq!(UserId::try_from(-1), Err(InvalidUserId));
    }
}
