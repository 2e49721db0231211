//! [`TracePropagator`]: how a trace goes on from one process to the next, without this library knowing who collects it.

use tracing::Span;

use crate::headers::Headers;

/// The attribute of an event that holds the W3C trace context of its cause (CloudEvents, Distributed Tracing extension).
pub const TRACEPARENT: &str = "traceparent";
/// The attribute of an event that holds what tracing systems add to it.
pub const TRACESTATE: &str = "tracestate";

/// A place in a trace, as W3C Trace Context writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace's id, the span's, and whether it is sampled.
    pub traceparent: String,
    /// What tracing systems add.
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// What these attributes hold.
    #[must_use]
    pub fn of(attributes: &Headers) -> Option<Self> {
        let traceparent = attributes.get_str(TRACEPARENT)?.to_owned();
        Some(Self { traceparent, tracestate: attributes.get_str(TRACESTATE).map(str::to_owned) })
    }

    /// These attributes with this context in the place of theirs.
    pub(crate) fn into_attributes(self, attributes: &Headers) -> Headers {
        let others = attributes.iter().filter(|(name, _)| !matches!(*name, TRACEPARENT | TRACESTATE));
        let context = [(TRACEPARENT, Some(self.traceparent)), (TRACESTATE, self.tracestate)];
        let ours = context.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?.as_bytes())));
        others.chain(ours).collect()
    }
}

/// Joins the spans of this process to the traces of others: new events carry the context of the span that they are made
/// in, and the span of a delivery continues the one that its event carries.
///
/// Given to [`MessagingConfig::trace_propagator`](crate::MessagingConfig::trace_propagator). It is asked for spans that
/// somebody listens for, and for each event that is made.
pub trait TracePropagator: Send + Sync + 'static {
    /// The place of the current span, if it is traced.
    fn current(&self) -> Option<TraceContext>;

    /// Makes a span, which nobody has entered yet, a child of `parent`.
    fn continue_trace(&self, span: &Span, parent: &TraceContext);
}

/// Makes a span that somebody listens for a child of what a message's attributes name, if they name anything.
pub(crate) fn continue_trace(propagator: &dyn TracePropagator, span: &Span, attributes: &Headers) {
    if !span.is_disabled()
        && let Some(parent) = TraceContext::of(attributes)
    {
        propagator.continue_trace(span, &parent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_takes_the_place_of_an_older_one() {
        let attributes = Headers::new().with("subject", "7").with(TRACEPARENT, "00-a").with(TRACESTATE, "old=1");
        let context = TraceContext { traceparent: "00-b".to_owned(), tracestate: None };
        let continued = context.clone().into_attributes(&attributes);
        assert_eq!(continued, Headers::new().with("subject", "7").with(TRACEPARENT, "00-b"));
        assert_eq!(TraceContext::of(&continued), Some(context));
    }
}
