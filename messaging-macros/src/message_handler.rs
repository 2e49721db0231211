//! `#[message_handler]`: a function that handles what no event handler of its topic gets, registered by its name; and
//! `#[debug_handler]`, which has in common with it that both check a free function.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Error, Expr, Ident, ItemFn, Result, Visibility, spanned::Spanned};

use crate::{
    arguments::{Arguments, name},
    consumer::ROUTE_OPTIONS,
    signature::{HandlerSignature, Placed, conditions},
};

pub(crate) struct MessageHandler {
    conditions: Vec<Attribute>,
    visibility: Visibility,
    ident: Ident,
    group: Option<Expr>,
    options: TokenStream,
    placed: Placed,
}

impl MessageHandler {
    pub(crate) fn parse(mut arguments: Arguments, function: &ItemFn) -> Result<Self> {
        let signature = free_function(function, "message_handler", "a method is an `#[on_message]` of a consumer")?;
        let missing = r#"which topic? `#[message_handler(topic = "orders")]`"#;
        let topic = name("topic", arguments.required("topic", missing)?)?;
        let group = arguments.optional("group")?.map(|group| name("group", group)).transpose()?;
        let target = quote!(::messaging::__private::checked::Target::message(#topic));
        let placed = signature.placed(arguments.optional("state")?, &target)?;
        let options = arguments.calls(ROUTE_OPTIONS);
        arguments.finish(&[&["topic", "group", "state"], ROUTE_OPTIONS])?;
        let conditions = conditions(&function.attrs).cloned().collect();
        Ok(Self { conditions, visibility: function.vis.clone(), ident: signature.ident, group, options, placed })
    }

    /// What stands beside the function: a type of its name, for the sake of its associated functions. Types and functions
    /// do not share their names, so that the function can still be called.
    pub(crate) fn expand(self) -> TokenStream {
        let Self { conditions, visibility, ident, group, options, placed } = self;
        let Placed { generics, state, bounds, checks, route } = placed;
        let (parameter, group) = match group {
            Some(group) => (TokenStream::new(), quote!(::messaging::Name::from_static(#group))),
            None => (quote!(group: impl ::core::convert::Into<::messaging::Name>), quote!(group)),
        };
        let document = format!("Registers the handler [`{ident}()`]: its route, or a router of its own.");
        quote! {
            #(#conditions)*
            #[doc = #document]
            #[allow(non_camel_case_types, dead_code)]
            #[derive(Debug)]
            #visibility enum #ident {}

            #(#conditions)*
            #[allow(dead_code)]
            impl #ident {
                /// The handler as a route, to be added to a router.
                pub fn route #generics() -> ::messaging::Route<#state> where #bounds {
                    #route #options
                }

                /// A router of the group with this handler alone. All routers of a group run as one.
                pub fn router #generics(#parameter) -> ::messaging::Router<#state> where #bounds {
                    ::messaging::Router::new(#group).route(Self::route())
                }
            }

            #(#conditions)*
            const _: () = { #checks };
        }
    }
}

/// Checks of a function that is registered by hand.
pub(crate) fn debug(mut arguments: Arguments, function: &ItemFn) -> Result<TokenStream> {
    let signature = free_function(function, "debug_handler", "`#[consumer]` checks its methods itself")?;
    let target = quote!(::messaging::__private::checked::Target::message(""));
    let placed = signature.placed(arguments.optional("state")?, &target)?;
    arguments.finish(&[&["state"]])?;
    let Placed { generics, bounds, checks, route, .. } = placed;
    let conditions = conditions(&function.attrs);
    Ok(quote! {
        #(#conditions)*
        const _: () = {
            #[allow(dead_code)]
            fn check #generics() where #bounds {
                let _ = #route;
            }
            #checks
        };
    })
}

fn free_function(function: &ItemFn, attribute: &str, instead: &str) -> Result<HandlerSignature> {
    match function.sig.receiver() {
        Some(receiver) => {
            Err(Error::new(receiver.span(), format!("`#[{attribute}]` stands on a free function; {instead}")))
        }
        None => HandlerSignature::parse(&function.sig, 0),
    }
}
