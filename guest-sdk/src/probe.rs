//! How macros find out what a type has, without demanding it.
//!
//! A [`Probe`] of a concrete type is asked for its schema, its kind, and so on. The inherent methods exist for types that
//! meet their bounds. For all others method resolution goes on to the traits [`WithoutSchema`] and [`NotMonoid`]. This works
//! where the type is known, as in the code of macros, and not in generic code.
#![expect(missing_docs, reason = "each method is named for what it finds, and only macros call it")]

use std::marker::PhantomData;

use postcard_schema::Schema;

use crate::{
    Kind, Monoid, Operation, Serializable,
    batch::{self, Fold},
};

/// Stands for a type.
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

impl<T> Probe<T> {
    #[expect(clippy::new_without_default, reason = "macros write `Probe::<T>::new()`")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Schema> Probe<T> {
    pub fn schema(&self) -> Option<String> {
        serde_json::to_string(T::SCHEMA).ok()
    }
}

/// For types that do not derive [`Schema`].
pub trait WithoutSchema {
    fn schema(&self) -> Option<String>;
}

impl<T> WithoutSchema for Probe<T> {
    fn schema(&self) -> Option<String> {
        None
    }
}

impl<T: Monoid> Probe<T> {
    pub fn kind(&self) -> Kind {
        Kind::Monoid
    }

    pub fn input(&self) -> Probe<T::Elem> {
        Probe::new()
    }
}

impl<T: Monoid + Serializable> Probe<T> {
    pub fn fold(&self) -> Option<Fold> {
        Some(Fold { fold: batch::fold::<T>, empty: batch::empty::<T> })
    }
}

/// For operations that are no monoids. That the type is an operation at all is asked by each method, so that the compiler
/// misses the operation and not the method.
pub trait NotMonoid<T> {
    fn kind(&self) -> Kind {
        Kind::Operation
    }

    fn input(&self) -> Probe<T::Input>
    where
        T: Operation,
    {
        Probe::new()
    }

    fn fold(&self) -> Option<Fold> {
        None
    }
}

impl<T> NotMonoid<T> for Probe<T> {}
