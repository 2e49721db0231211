//! Routes whose handlers have a type parameter for each argument: the macros name the argument types by the user's own
//! tokens, so that the compiler's error stands on the one that is wrong.

use std::future::Future;

use super::{
    extract::FromDelivery,
    handler::{Call0, Call1, Call2, Call3, Call4, Call5, Call6, Call7, Call8, IntoOutcome, Plain, WithResource},
    resource::Resource,
    route::{Matches, Route},
};
use crate::name::Name;

/// What a route gets.
#[derive(Debug)]
pub struct Target(Matches);

impl Target {
    /// Events of this name.
    #[must_use]
    pub fn event(name: &'static str) -> Self {
        Self(Matches::Event { name: Name::from_static(name) })
    }

    /// What no event route of this topic gets.
    #[must_use]
    pub fn message(topic: &'static str) -> Self {
        Self(Matches::Message { topic: Name::from_static(topic) })
    }
}

macro_rules! checked {
    ($plain:ident, $with_resource:ident, $call:ident: $($arg:ident),*) => {
        /// A route to a handler whose arguments all come from the delivery.
        pub fn $plain<S, $($arg,)* Out, F, Fut>(target: Target, handler: F) -> Route<S>
        where
            S: Send + Sync + 'static,
            $($arg: FromDelivery<S>,)*
            Out: IntoOutcome,
            F: Fn($($arg),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Out> + Send + 'static,
        {
            Route::new::<F, Plain<($($arg,)*)>>(target.0, handler)
        }

        /// A route to a handler whose last argument is a resource.
        pub fn $with_resource<S, $($arg,)* R, Out, F>(target: Target, handler: F) -> Route<S>
        where
            S: Send + Sync + 'static,
            $($arg: FromDelivery<S> + Send + 'static,)*
            R: Resource<S>,
            Out: IntoOutcome,
            F: for<'a> $call<'a, R, $($arg,)* Output = Out> + Clone + Send + Sync + 'static,
        {
            Route::new::<F, WithResource<($($arg,)*), R>>(target.0, handler)
        }
    };
}

checked!(plain0, with_resource0, Call0:);
checked!(plain1, with_resource1, Call1: A1);
checked!(plain2, with_resource2, Call2: A1, A2);
checked!(plain3, with_resource3, Call3: A1, A2, A3);
checked!(plain4, with_resource4, Call4: A1, A2, A3, A4);
checked!(plain5, with_resource5, Call5: A1, A2, A3, A4, A5);
checked!(plain6, with_resource6, Call6: A1, A2, A3, A4, A5, A6);
checked!(plain7, with_resource7, Call7: A1, A2, A3, A4, A5, A6, A7);
checked!(plain8, with_resource8, Call8: A1, A2, A3, A4, A5, A6, A7, A8);
