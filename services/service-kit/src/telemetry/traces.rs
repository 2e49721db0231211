//! Traces over OTLP: spans of this process go to a collector, and belong to the traces of the processes before it.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use messaging::{TRACEPARENT, TRACESTATE, TraceContext, TracePropagator};
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use super::OTEL_EXPORTER_OTLP_ENDPOINT;
use crate::process::StartError;
use crate::settings::{Environment, SettingError};

/// Where a collector takes traces, under the endpoint of all signals (OTLP 1.x, "OTLP/HTTP Request").
const TRACES_PATH: &str = "v1/traces";

/// The longest that a collector may take over a batch.
const EXPORT_DEADLINE: Duration = Duration::from_secs(10);

/// The longest that a process that stops waits for the collector.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);

/// The collector's address, if there is to be one.
pub(super) fn endpoint(environment: &Environment) -> Result<Option<url::Url>, SettingError> {
    let Some(text) = environment.text(OTEL_EXPORTER_OTLP_ENDPOINT)? else { return Ok(None) };
    let wrong = |reason: &str| OTEL_EXPORTER_OTLP_ENDPOINT.error(reason);
    let mut url: url::Url = text.parse().map_err(|_| wrong("expected a URL such as http://collector:4318"))?;
    if url.scheme() != "http" || !url.has_host() {
        return Err(wrong("expected http://host:port; a collector beside the service forwards with TLS"));
    }
    url.path_segments_mut()
        .map_err(|()| wrong("expected http://host:port"))?
        .pop_if_empty()
        .extend(TRACES_PATH.split('/'));
    Ok(Some(url))
}

/// Spans on their way to a collector.
pub(super) struct Exporting {
    provider: SdkTracerProvider,
}

impl Exporting {
    /// Begins to export, from this runtime, if the settings name a collector.
    pub(super) fn start(environment: &Environment, name: &'static str) -> Result<Option<Self>, StartError> {
        let Some(endpoint) = endpoint(environment)? else { return Ok(None) };
        let client = HyperClient::with_default_connector(EXPORT_DEADLINE, None);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(OnRuntime { client, runtime: Handle::current() })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_DEADLINE)
            .build()
            .map_err(StartError::other)?;
        // The SDK reads the standard variable itself, and would let this go before it.
        let resource = match std::env::var_os("OTEL_SERVICE_NAME") {
            Some(_) => Resource::builder().build(),
            None => Resource::builder().with_service_name(name.replace(' ', "-")).build(),
        };
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Some(Self { provider }))
    }

    /// What makes spans of those of `tracing`.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("service-kit"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_default(Level::INFO))
    }

    /// Sends what is left.
    pub(super) async fn flush(self) {
        // It waits for the exporting thread, which needs the runtime.
        let ended = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(FLUSH_DEADLINE)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "not every span is with the collector");
        }
    }
}

/// The exporter has a thread of its own; its client lives on the process's runtime.
struct OnRuntime {
    client: HyperClient,
    runtime: Handle,
}

impl fmt::Debug for OnRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRuntime").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}

/// Carries the context of `tracing`'s spans in events and requests, as W3C Trace Context.
#[derive(Debug, Default)]
pub struct Propagator {
    format: TraceContextPropagator,
}

impl Propagator {
    fn read(&self, parent: &TraceContext) -> Context {
        let fields = [(TRACEPARENT, Some(&parent.traceparent)), (TRACESTATE, parent.tracestate.as_ref())];
        let carrier: HashMap<String, String> =
            fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone()))).collect();
        self.format.extract_with_context(&Context::new(), &carrier)
    }
}

impl TracePropagator for Propagator {
    fn current(&self) -> Option<TraceContext> {
        let span = Span::current();
        if span.is_disabled() {
            return None;
        }
        let context = span.context();
        if !context.span().span_context().is_valid() {
            return None;
        }
        let mut carrier = HashMap::new();
        self.format.inject_context(&context, &mut carrier);
        let traceparent = carrier.remove(TRACEPARENT)?;
        Some(TraceContext { traceparent, tracestate: carrier.remove(TRACESTATE).filter(|state| !state.is_empty()) })
    }

    fn continue_trace(&self, span: &Span, parent: &TraceContext) {
        let context = self.read(parent);
        if context.span().span_context().is_valid() {
            // Without a collector there is nothing to continue.
            let _ = span.set_parent(context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_have_their_place_under_the_endpoint() {
        for (text, url) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("http://proxy/otlp/", "http://proxy/otlp/v1/traces"),
        ] {
            let environment = Environment::fixed([("OTEL_EXPORTER_OTLP_ENDPOINT", text)]);
            assert_eq!(endpoint(&environment).unwrap().unwrap().as_str(), url);
        }
    }

    #[test]
    fn what_is_no_collector_is_refused_without_its_text() {
        for text in ["collector:4318", "https://u:hunter2@collector", "hunter2"] {
            let error = endpoint(&Environment::fixed([("OTEL_EXPORTER_OTLP_ENDPOINT", text)])).unwrap_err();
            assert_eq!(error.name(), "OTEL_EXPORTER_OTLP_ENDPOINT");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
