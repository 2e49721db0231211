//! Attribute and derive macros of the `messaging` crate.

mod arguments;
mod consumer;
mod event_data;
mod signature;

use proc_macro::TokenStream;
use quote::quote;
use syn::{DeriveInput, ItemImpl, parse_macro_input};

#[proc_macro_derive(EventData, attributes(event))]
pub fn event_data(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    match event_data::EventData::parse(input) {
        Ok(event) => event.expand().into(),
        Err(error) => error.into_compile_error().into(),
    }
}

#[proc_macro_attribute]
pub fn consumer(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as arguments::Arguments);
    let mut block = parse_macro_input!(item as ItemImpl);
    let beside = match consumer::Consumer::parse(arguments, &mut block) {
        Ok(consumer) => consumer.expand(&block),
        Err(error) => error.into_compile_error(),
    };
    quote!(#block #beside).into()
}

#[proc_macro_attribute]
pub fn on_event(_: TokenStream, item: TokenStream) -> TokenStream {
    outside("on_event", item)
}

#[proc_macro_attribute]
pub fn on_message(_: TokenStream, item: TokenStream) -> TokenStream {
    outside("on_message", item)
}

/// Inside of a consumer these attributes are taken off before the compiler comes to them.
fn outside(name: &str, item: TokenStream) -> TokenStream {
    let message = format!("`#[{name}]` stands on a method in an `impl` block with `#[messaging::consumer(…)]`");
    let error = syn::Error::new(proc_macro2::Span::call_site(), message).into_compile_error();
    let item = proc_macro2::TokenStream::from(item);
    quote!(#error #item).into()
}
