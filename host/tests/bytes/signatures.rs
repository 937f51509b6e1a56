//! Signatures, which come with records, and the keys that a worker trusts, which are files.

use std::sync::LazyLock;

use palfrey_host::{
    plugin::{NewKey, SigningKey, Trust, check_signature_name},
    secret::ExposeSecret,
};
use semver::Version;

use crate::hostile::{LONGEST_ERROR, hostile, within};

const COMPONENT: &[u8] = b"a component";
const PLUGIN: &str = "arith";
const VERSION: Version = Version::new(1, 2, 3);

/// A key, and a signature by it.
static SIGNED: LazyLock<(String, String)> = LazyLock::new(|| {
    let NewKey { secret, public, .. } = NewKey::generate(None).unwrap();
    let key = SigningKey::open(secret.expose_secret(), None).unwrap();
    (public, key.sign(COMPONENT, PLUGIN, &VERSION).unwrap())
});

/// What of a file counts: all but the first line, a comment that anybody may change, and what is behind the last one.
fn counts(text: &str, lines: usize) -> Vec<&str> {
    text.lines().skip(1).take(lines).map(str::trim_end).collect()
}

pub(crate) fn attack_signature(input: &[u8]) {
    let (key, signature) = &*SIGNED;
    let bytes = hostile(&[signature.clone().into()], input);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let trust = Trust::in_keys([("ada.pub", key)]).unwrap();
    let signatures = [text];
    within(16, &bytes, || match trust.check(COMPONENT, PLUGIN, &VERSION, &signatures) {
        Ok(()) => {
            let kept = counts(signature, 3).iter().all(|line| signatures[0].contains(line));
            assert!(kept, "nothing of what counts was changed");
        }
        Err(refusal) => assert!(refusal.to_string().len() <= LONGEST_ERROR, "{refusal}"),
    });
    if let Err(refusal) = check_signature_name(&signatures[0], PLUGIN, &VERSION) {
        assert!(refusal.to_string().len() <= LONGEST_ERROR, "{refusal}");
    }
}

pub(crate) fn attack_key(input: &[u8]) {
    let (key, signature) = &*SIGNED;
    let bytes = hostile(&[key.clone().into()], input);
    let text = String::from_utf8_lossy(&bytes);
    let signatures = [signature.clone()];
    within(16, &bytes, || match Trust::in_keys([("ada.pub", &text)]) {
        Ok(trust) => {
            let accepted = trust.check(COMPONENT, PLUGIN, &VERSION, &signatures).is_ok();
            assert!(!accepted || counts(key, 1).iter().all(|line| text.contains(line)), "{text}");
            assert!(accepted || text != *key, "{text}");
        }
        Err(error) => assert!(error.to_string().len() <= LONGEST_ERROR, "{error}"),
    });
}
