/// Calls a macro with the names of all ways in which the description misbehaves, as `names.rs` does with the operations. A name has
/// at most seven letters.
macro_rules! for_each_mode {
    ($callback:ident) => {
        $callback! {
            normal
            kebab
            twice
            version
            nothing
            huge
            endless
            meganam
            many
            differ
            flood
            exit
            panic
            spin
        }
    };
}
