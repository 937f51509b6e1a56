//! Tells the worker why the plugin is about to trap.

use crate::{batch, component::context};

/// Replaces the hook that only prints. The message goes to stderr as well, with the index of the element.
pub(super) fn install() {
    std::panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("(a panic without a message)");
        let location = info.location().map(ToString::to_string);
        let place = location.as_deref().unwrap_or("an unknown place");
        match batch::current_element() {
            Some(index) => eprintln!("panicked at {place}, in element {index} of the batch:\n{message}"),
            None => eprintln!("panicked at {place}:\n{message}"),
        }
        context::panicked(message, location.as_deref());
    }));
}
