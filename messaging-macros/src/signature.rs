//! The signature of a handler: its arguments, checked one by one, so that an error stands on the argument's type.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Attribute, Error, Expr, FnArg, Ident, PathArguments, Result, ReturnType, Signature, Type, parse_quote,
    spanned::Spanned,
};

/// As many arguments as `messaging` implements `Handler` for.
const MOST: usize = 8;

pub(crate) struct HandlerSignature {
    pub(crate) ident: Ident,
    /// What is taken from the delivery.
    pub(crate) arguments: Vec<Type>,
    /// `R` of a last argument `&mut R`.
    pub(crate) resource: Option<Type>,
    pub(crate) output: ReturnType,
}

impl HandlerSignature {
    /// Reads a signature, without its receiver. The framework itself takes `reserved` arguments.
    pub(crate) fn parse(signature: &Signature, reserved: usize) -> Result<Self> {
        if signature.asyncness.is_none() {
            return Err(Error::new(signature.fn_token.span, "a handler is asynchronous: write `async fn`"));
        }
        if !signature.generics.params.is_empty() {
            let message = "a handler has no generic parameters: name the types it takes";
            return Err(Error::new(signature.generics.params.span(), message));
        }
        let mut arguments: Vec<Type> = Vec::new();
        let mut resource = None;
        for argument in &signature.inputs {
            let FnArg::Typed(argument) = argument else { continue };
            if resource.is_some() {
                return Err(Error::new(argument.ty.span(), "a borrowed resource (`&mut R`) comes last"));
            }
            match &*argument.ty {
                Type::Reference(borrowed) if borrowed.mutability.is_some() => {
                    resource = Some(Type::clone(&borrowed.elem));
                }
                Type::Reference(borrowed) => {
                    let message =
                        "a handler owns its arguments; only a resource is borrowed, by `&mut`, and comes last";
                    return Err(Error::new(borrowed.and_token.span, message));
                }
                Type::ImplTrait(opaque) => {
                    return Err(Error::new(opaque.impl_token.span, "a handler names the types it takes"));
                }
                owned => arguments.push(owned.clone()),
            }
        }
        let most = MOST - reserved;
        if arguments.len() > most {
            let message =
                format!("a handler takes at most {most} arguments beside a resource; group some in one `FromDelivery`");
            return Err(Error::new(arguments[most].span(), message));
        }
        Ok(Self { ident: signature.ident.clone(), arguments, resource, output: signature.output.clone() })
    }

    /// A route from `target` to `function`, with `before` as arguments of the framework's own. Each type stands there by
    /// its own token, and the rest by the function's name, for the compiler to point at.
    pub(crate) fn route(
        &self,
        state: &Type,
        before: &[Type],
        target: &TokenStream,
        function: &TokenStream,
    ) -> TokenStream {
        let arguments = before.iter().chain(&self.arguments);
        let count = before.len() + self.arguments.len();
        let output = self.output();
        let function_type = quote_spanned!(self.ident.span()=> _);
        let (checked, last) = match &self.resource {
            Some(resource) => (format_ident!("with_resource{count}"), quote!(#resource, #output)),
            None => (format_ident!("plain{count}"), quote!(#output, #function_type)),
        };
        quote_spanned! {self.ident.span()=>
            ::messaging::__private::checked::#checked::<#state, #(#arguments,)* #last, _>(#target, #function)
        }
    }

    fn output(&self) -> TokenStream {
        match &self.output {
            ReturnType::Default => quote!(()),
            ReturnType::Type(_, output) => quote!(#output),
        }
    }

    /// The handler of this function with the state that it runs with: `given`, or that of its only `State<S>`, or else any
    /// that its arguments can be taken from, of which then only each use of the route can tell.
    pub(crate) fn placed(&self, given: Option<Expr>, target: &TokenStream) -> Result<Placed> {
        let mut states = self.arguments.iter().filter_map(state_of);
        let first = states.next().filter(|_| states.next().is_none());
        let known = given.map(|given| syn::parse2(given.into_token_stream())).transpose()?.or(first);
        let (generics, state, bounds, checks) = match known {
            Some(state) => (TokenStream::new(), state, TokenStream::new(), TokenStream::new()),
            None => (quote!(<S>), parse_quote!(S), self.bounds(), self.checks()),
        };
        let ident = &self.ident;
        let route = self.route(&state, &[], target, &quote!(#ident));
        Ok(Placed { generics, state, bounds, checks, route })
    }

    fn bounds(&self) -> TokenStream {
        let Self { arguments, resource, .. } = self;
        let resource = resource.iter();
        quote! {
            S: ::core::marker::Send + ::core::marker::Sync + 'static,
            #(#arguments: ::messaging::FromDelivery<S>,)*
            #(#resource: ::messaging::Resource<S>,)*
        }
    }

    /// Checks what can be said about the arguments without the state.
    fn checks(&self) -> TokenStream {
        let arguments = self
            .arguments
            .iter()
            .map(|argument| quote_spanned!(argument.span()=> ::messaging::__private::argument::<#argument, ()>();));
        quote!(const _: fn() = || { #(#arguments)* };)
    }
}

/// A function's route, and what a function around it needs: `fn f #generics () where #bounds`.
pub(crate) struct Placed {
    pub(crate) generics: TokenStream,
    pub(crate) state: Type,
    pub(crate) bounds: TokenStream,
    pub(crate) route: TokenStream,
    /// An item that says what is wrong with the arguments where `bounds` would keep it for those who call.
    pub(crate) checks: TokenStream,
}

fn state_of(argument: &Type) -> Option<Type> {
    let Type::Path(path) = argument else { return None };
    let segment = path.path.segments.last().filter(|segment| segment.ident == "State")?;
    let PathArguments::AngleBracketed(generics) = &segment.arguments else { return None };
    let state = generics.args.first()?;
    Some(parse_quote!(#state))
}

/// The conditions under which an item exists: what is generated beside it shares them.
pub(crate) fn conditions(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"))
}
