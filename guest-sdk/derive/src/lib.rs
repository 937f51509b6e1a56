//! The derive macro of palfrey-sdk.
