//! The derive macro of palfrey-sdk, where it is documented.

use heck::ToKebabCase;
use proc_macro::TokenStream;
use quote::quote;
use syn::{
    Attribute, DeriveInput, Expr, ExprLit, Lit, LitStr, Meta, Token, parenthesized, parse_macro_input,
    punctuated::Punctuated, spanned::Spanned,
};

/// Implements `palfrey_sdk::RemoteExecute`.
#[proc_macro_derive(RemoteExecute, attributes(palfrey))]
pub fn remote_execute(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(syn::Error::new(
            input.generics.span(),
            "an operation is a concrete type, so that it has one name: replace the parameters by types, or derive \
             RemoteExecute for a newtype around a concrete one",
        ));
    }
    let attributes = Attributes::parse(&input.attrs)?;
    let ident = &input.ident;
    let name = match attributes.name {
        Some(name) => {
            check_name(&name.value()).map_err(|fault| {
                syn::Error::new(name.span(), format!("`{}` is not kebab-case: {fault}", name.value()))
            })?;
            name.value()
        }
        None => {
            let name = ident.to_string().to_kebab_case();
            check_name(&name).map_err(|fault| {
                let message = format!(
                    "`{ident}` makes no operation's name: {fault}; choose one with #[palfrey(name = \"some-name\")]"
                );
                syn::Error::new(ident.span(), message)
            })?;
            name
        }
    };
    let needs = attributes.needs;
    let summary = attributes.summary.map_or_else(|| first_paragraph(&input.attrs), |summary| summary.value());
    Ok(quote! {
        #[automatically_derived]
        impl ::palfrey_sdk::RemoteExecute for #ident {
            const PLUGIN: &'static str = ::core::env!("CARGO_PKG_NAME");
            const VERSION: &'static str = ::core::env!("CARGO_PKG_VERSION");
            const NAME: &'static str = #name;
            const SUMMARY: &'static str = #summary;

            fn descriptor() -> ::palfrey_sdk::Descriptor {
                #[allow(unused_imports, reason = "each stands in for what only some types have")]
                use ::palfrey_sdk::__private::{NotMonoid as _, Probe, WithoutSchema as _};

                let operation = Probe::<#ident>::new();
                ::palfrey_sdk::Descriptor {
                    name: #name,
                    kind: operation.kind(),
                    summary: #summary,
                    encodings: &::palfrey_sdk::Serializer::ALL,
                    config_schema: operation.schema(),
                    input_schema: operation.input().schema(),
                    output_schema: Probe::<<#ident as ::palfrey_sdk::Operation>::Output>::new().schema(),
                    needs: &[#(#needs),*],
                }
            }
        }
    })
}

/// The most needs of an operation that the contract allows.
const MAX_NEEDS: usize = 16;

/// What `#[palfrey(…)]` says.
#[derive(Default)]
struct Attributes {
    name: Option<LitStr>,
    summary: Option<LitStr>,
    needs: Vec<LitStr>,
}

impl Attributes {
    fn parse(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut parsed = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("palfrey")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("needs") {
                    let list;
                    parenthesized!(list in meta.input);
                    let needs = Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?;
                    needs.iter().try_for_each(check_need)?;
                    parsed.needs.extend(needs);
                    return match parsed.needs.get(MAX_NEEDS) {
                        Some(need) => {
                            let message = format!("an operation has at most {MAX_NEEDS} needs: split it");
                            Err(syn::Error::new(need.span(), message))
                        }
                        None => Ok(()),
                    };
                }
                let slot = if meta.path.is_ident("name") {
                    &mut parsed.name
                } else if meta.path.is_ident("summary") {
                    &mut parsed.summary
                } else {
                    return Err(
                        meta.error("unknown attribute: write `name = \"…\"`, `summary = \"…\"` or `needs(\"…\")`")
                    );
                };
                if slot.replace(meta.value()?.parse()?).is_some() {
                    return Err(meta.error("this was set before: keep one of the two"));
                }
                Ok(())
            })?;
        }
        Ok(parsed)
    }
}

/// The contract's rule for names.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 64 {
        Err("a name has 1 to 64 characters")
    } else if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        Err("a name begins with a lower-case letter")
    } else if !name.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-') {
        Err("a name consists of lower-case letters, digits and hyphens, as in `fib-at`")
    } else if name.ends_with('-') || name.contains("--") {
        Err("a hyphen stands alone and not at the end")
    } else {
        Ok(())
    }
}

/// The contract's rule for what an operation needs.
fn check_need(need: &LitStr) -> syn::Result<()> {
    let text = need.value();
    let sound = match text.split_once(':') {
        None => matches!(text.as_str(), "clocks" | "entropy"),
        Some(("env", name)) => {
            !name.is_empty()
                && !name.starts_with(|first: char| first.is_ascii_digit())
                && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
        }
        Some(("dir", path)) => path.strip_prefix('/').is_some_and(|path| {
            path.split('/').all(|part| {
                !matches!(part, "" | "." | "..")
                    && !part.contains(|char: char| char.is_control() || "=;".contains(char))
            })
        }),
        Some(_) => false,
    };
    if sound && text.len() <= 256 {
        return Ok(());
    }
    let message = format!("nobody can grant `{text}`: write `clocks`, `entropy`, `env:NAME` or `dir:/path`");
    Err(syn::Error::new(need.span(), message))
}

/// The first paragraph of the documentation, as one line.
fn first_paragraph(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let paragraph = text.lines().map(str::trim).skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    paragraph.collect::<Vec<_>>().join(" ")
}
