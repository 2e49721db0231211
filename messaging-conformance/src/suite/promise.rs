//! [`Promise`]: one promise of the contract, and the test of it.

use std::{fmt, future::Future, pin::Pin};

use super::World;
use crate::{factory::Need, failure::Checked};

/// One promise of the contract, and the test of it.
#[derive(Clone, Copy)]
pub struct Promise {
    /// The test's name, after the backend's and the sort's.
    pub name: &'static str,
    /// The path of the module the test stands in; its end, such as `harm`, is a filter for tests of that sort.
    pub(super) module: &'static str,
    /// Where in the contract it stands.
    pub article: &'static str,
    /// What the test needs to do to the backend.
    pub needs: &'static [Need],
    pub(super) run: for<'a> fn(&'a World) -> Test<'a>,
}

impl Promise {
    /// What the tests of this sort have in common: `harm` where the backend comes to harm, and so on.
    #[must_use]
    pub fn sort(&self) -> &'static str {
        self.module.rsplit("::").next().unwrap_or(self.module)
    }
}

pub(super) type Test<'a> = Pin<Box<dyn Future<Output = Checked> + Send + 'a>>;

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").field("name", &self.name).field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// The promise that a test function of this name keeps watch over: `promise!("C1", name)`, with what it needs in
/// brackets.
macro_rules! promise {
    ($article:literal, $test:ident) => {
        $crate::suite::promise!($article, $test, [])
    };
    ($article:literal, $test:ident, [$($need:ident),*]) => {
        $crate::suite::Promise {
            name: stringify!($test),
            module: module_path!(),
            article: $article,
            needs: &[$($crate::factory::Need::$need),*],
            run: |world| Box::pin($test(world)),
        }
    };
}
pub(crate) use promise;
