//! The span of a request, by the names of OpenTelemetry's semantic conventions for HTTP.

use std::time::Duration;

use axum::extract::MatchedPath;
use axum::http::{Request, Response};
use tower_http::classify::{ServerErrorsAsFailures, SharedClassifier};
use tower_http::trace::{MakeSpan, OnResponse, TraceLayer};
use tracing::Span;
use tracing::field::Empty;

/// Puts each request into a span, which continues the trace that the client names.
pub(super) fn layer() -> TraceLayer<SharedClassifier<ServerErrorsAsFailures>, RequestSpan, (), RecordStatus> {
    TraceLayer::new_for_http().make_span_with(RequestSpan).on_request(()).on_response(RecordStatus)
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RequestSpan;

impl<B> MakeSpan<B> for RequestSpan {
    fn make_span(&mut self, request: &Request<B>) -> Span {
        let path = request.uri().path();
        // Asked every few seconds by whoever watches the process: nobody wants to see a trace of that.
        if path.starts_with("/health/") || path == "/metrics" {
            return Span::none();
        }
        let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().trim_end_matches('/'));
        let span = tracing::info_span!(
            "request",
            otel.name = route.map(|route| format!("{} {route}", request.method())),
            otel.kind = "server",
            otel.status_code = Empty,
            http.request.method = %request.method(),
            http.route = route,
            url.path = path,
            http.response.status_code = Empty,
        );
        #[cfg(feature = "otlp")]
        continue_trace(&span, request.headers());
        span
    }
}

#[cfg(feature = "otlp")]
fn continue_trace(span: &Span, headers: &axum::http::HeaderMap) {
    use messaging::{TRACEPARENT, TRACESTATE, TraceContext, TracePropagator};

    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if let Some(traceparent) = text(TRACEPARENT) {
        let parent = TraceContext { traceparent, tracestate: text(TRACESTATE) };
        crate::telemetry::Propagator::default().continue_trace(span, &parent);
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RecordStatus;

impl<B> OnResponse<B> for RecordStatus {
    fn on_response(self, response: &Response<B>, latency: Duration, span: &Span) {
        let status = response.status();
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
        tracing::debug!(status = status.as_u16(), ?latency, "answered");
    }
}
