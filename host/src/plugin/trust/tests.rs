use super::*;
use crate::{
    plugin::{NewKey, SigningKey},
    secret::{ExposeSecret as _, SecretString},
};

const BYTES: &[u8] = b"a component";

/// Keys of minisign 0.11, and what it signed with them: `minisign -S -t 'plugin:arith version:1.2.0'`.
const MINISIGN_KEY: &str = concat!(
    "untrusted comment: minisign public key 2EAB812CDBEDC96D\n",
    "RWRtye3bLIGrLpvv+T7HXcf09nTmDQAeJMqrTrQ+sWMWvmpwtWx1RLpW\n",
);
const MINISIGN_SIGNATURE: &str = concat!(
    "untrusted comment: signature from minisign secret key\n",
    "RURtye3bLIGrLpfiU9raUQjTZFDF+cm5JzQKk5iC6T5UaBWJFWtJykhuuB98/Sm1pRdEEZiPHrPZ7ZUKuh5tS6pTCen7yAXJlQU=\n",
    "trusted comment: plugin:arith version:1.2.0\n",
    "EakQp91/1CfVUcSAY4vHQNM2SF1SYDPUk+XivYAve311TTYjytzhFbciUF9CK0ktgCH6xoSQ6SLzMPtOpKWvAg==\n",
);
/// Without `-t`.
const MINISIGN_UNNAMED: &str = concat!(
    "untrusted comment: signature from minisign secret key\n",
    "RURtye3bLIGrLpfiU9raUQjTZFDF+cm5JzQKk5iC6T5UaBWJFWtJykhuuB98/Sm1pRdEEZiPHrPZ7ZUKuh5tS6pTCen7yAXJlQU=\n",
    "trusted comment: timestamp:1795540136\tfile:c.wasm\thashed\n",
    "EPX8NNYnjfH+J2uy5/PXZKIcKr22xDRkwaWa6ifli55D8WOtaOnggQjHOYu3wTydWcim+jYjcfMH0p1d39aJBg==\n",
);

fn key() -> NewKey {
    NewKey::generate(None).unwrap()
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn sign(key: &NewKey, plugin: &str, of: &str) -> String {
    SigningKey::open(key.secret.expose_secret(), None).unwrap().sign(BYTES, plugin, &version(of)).unwrap()
}

fn trusting(keys: &[&NewKey]) -> Trust {
    Trust::in_keys(keys.iter().enumerate().map(|(index, key)| (format!("{index}.pub"), &key.public))).unwrap()
}

fn check(trust: &Trust, signatures: &[&str]) -> Result<(), Untrusted> {
    let signatures: Vec<_> = signatures.iter().map(|&text| text.to_owned()).collect();
    trust.check(BYTES, "arith", &version("1.2.0"), &signatures)
}

#[test]
fn without_keys_everything_is_executed() {
    assert!(Trust::load(&[]).unwrap().is_unlimited());
    assert_eq!(check(&Trust::default(), &[]), Ok(()));
}

#[test]
fn what_a_trusted_key_signed_is_executed_and_nothing_else() {
    let (ada, mallory) = (key(), key());
    let trust = trusting(&[&ada]);
    let good = sign(&ada, "arith", "1.2.0");
    assert_eq!(check(&trust, &[&good]), Ok(()));

    let refused = |signatures: &[&str], expect: &str| {
        let message = check(&trust, signatures).unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
    };
    refused(&[], "`arith` 1.2.0 is not signed, and this worker executes only what 0.pub signed");
    let by_mallory = sign(&mallory, "arith", "1.2.0");
    refused(&[&by_mallory], &format!("is signed by key {}, which is not trusted here: only 0.pub is", mallory.id));
    refused(&[&sign(&ada, "arith", "1.1.0")], "were signed as `arith` 1.1.0 and are deployed as `arith` 1.2.0");
    refused(&[&sign(&ada, "text", "1.2.0")], "were signed as `text` 1.2.0 and are deployed as `arith` 1.2.0");
    refused(&["", "nonsense"], "is not one of minisign");

    let other = trust.check(b"others", "arith", &version("1.2.0"), std::slice::from_ref(&good));
    let Err(Untrusted::OtherBytes { key, .. }) = other else { panic!("{other:?}") };
    assert_eq!(key, ada.id);
}

#[test]
fn a_comment_that_was_changed_is_no_longer_signed() {
    let ada = key();
    let old = sign(&ada, "arith", "1.1.0");
    let replayed = old.replace("version:1.1.0", "version:1.2.0");
    assert_ne!(replayed, old);
    assert!(matches!(check(&trusting(&[&ada]), &[&replayed]), Err(Untrusted::OtherBytes { .. })));
}

#[test]
fn a_key_that_claims_the_id_of_a_trusted_one_is_not_it() {
    let (ada, mallory) = (key(), key());
    let (genuine, forged) = (sign(&ada, "arith", "1.2.0"), sign(&mallory, "arith", "1.2.0"));
    // Of the base64 text the first 13 characters hold the algorithm and most of the ID; whole groups of three bytes are the
    // first 12: two bytes of algorithm, eight of ID, and two of the signature itself.
    let (id, rest) = (genuine.lines().nth(1).unwrap().split_at(16).0, forged.lines().nth(1).unwrap().split_at(16).1);
    let lines: Vec<_> = forged
        .lines()
        .enumerate()
        .map(|(number, line)| if number == 1 { format!("{id}{rest}") } else { line.to_owned() })
        .collect();
    let error = check(&trusting(&[&ada]), &[&lines.join("\n")]).unwrap_err();
    assert!(matches!(&error, Untrusted::OtherBytes { key, .. } if *key == ada.id), "{error}");
}

#[test]
fn one_good_signature_is_enough_and_a_bad_one_explains_more_than_a_strangers() {
    let (old, new, stranger) = (key(), key(), key());
    let [by_old, by_new, by_stranger] = [&old, &new, &stranger].map(|key| sign(key, "arith", "1.2.0"));
    let trusts = [trusting(&[&old]), trusting(&[&old, &new]), trusting(&[&new])];
    // While keys change: both signatures are there, and workers with either key, or both, go on.
    for trust in &trusts {
        assert_eq!(check(trust, &[&by_old, &by_stranger, &by_new]), Ok(()));
    }
    assert!(matches!(check(&trusts[2], &[&by_old]), Err(Untrusted::UnknownKey { .. })));
    let replay = sign(&new, "arith", "1.0.0");
    for signatures in [[&replay, &by_stranger], [&by_stranger, &replay]] {
        let error = check(&trusts[2], &signatures.map(String::as_str)).unwrap_err();
        assert!(matches!(error, Untrusted::OtherName { .. }), "{error}");
    }
}

#[test]
fn a_comment_names_one_plugin_and_one_version() {
    assert_eq!(word("timestamp:1 plugin:arith\tversion:1.2.0", PLUGIN), Some("arith"));
    assert_eq!(word("plugin:arith plugin:text", PLUGIN), None);
    assert_eq!(word("noplugin:arith", PLUGIN), None);
}

#[test]
fn signatures_of_the_public_tool_are_understood() {
    let trust = Trust::in_keys([("minisign.pub", MINISIGN_KEY)]).unwrap();
    assert_eq!(check(&trust, &[MINISIGN_SIGNATURE]), Ok(()));
    let message = check(&trust, &[MINISIGN_UNNAMED]).unwrap_err().to_string();
    assert!(message.contains("does not name plugin and version"), "{message}");
    assert!(message.contains("minisign -S -t 'plugin:arith version:1.2.0'"), "{message}");
}

#[test]
fn keys_are_files_or_folders_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let (ada, bob) = (key(), key());
    let path = |name: &str| folder.path().join(name);
    fs::write(path("ada.pub"), &ada.public).unwrap();
    fs::write(path("bob.pub"), &bob.public).unwrap();
    fs::write(path("README"), "not a key").unwrap();

    let by_bob = sign(&bob, "arith", "1.2.0");
    assert_eq!(check(&Trust::load(&[folder.path().to_owned()]).unwrap(), &[&by_bob]), Ok(()));
    assert!(check(&Trust::load(&[path("ada.pub")]).unwrap(), &[&by_bob]).is_err());
    assert_eq!(check(&Trust::load(&[path("ada.pub"), path("bob.pub")]).unwrap(), &[&by_bob]), Ok(()));

    // Revoked: its file is gone.
    fs::remove_file(path("bob.pub")).unwrap();
    assert!(check(&Trust::load(&[folder.path().to_owned()]).unwrap(), &[&by_bob]).is_err());

    let refused = |path: PathBuf, expect: &str| {
        let message = Trust::load(&[path]).unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
    };
    refused(path("bob.pub"), "cannot read the trusted key");
    refused(path("README"), "README is not a public key of minisign");
    let empty = tempfile::tempdir().unwrap();
    refused(empty.path().to_owned(), "holds no key, a file `*.pub`: a worker that trusts nobody executes nothing");
}

#[test]
fn a_secret_key_opens_with_its_password_alone_and_is_never_shown() {
    let password = SecretString::from("correct horse");
    let new = NewKey::generate(Some(&password)).unwrap();
    let open = |password: Option<&str>| {
        SigningKey::open(new.secret.expose_secret(), password.map(SecretString::from).as_ref())
    };
    assert_eq!(open(Some("correct horse")).unwrap().id(), new.id);
    assert!(open(None).unwrap_err().to_string().contains("--password-file"));
    assert_eq!(open(Some("battery")).unwrap_err().to_string(), "this is not the password of the key");
    let error = SigningKey::open("nonsense", Some(&password)).unwrap_err().to_string();
    assert!(error.starts_with("this is no secret key of minisign"), "{error}");

    let shown = format!("{new:?} {:?}", open(Some("correct horse")).unwrap());
    let secret = new.secret.expose_secret().lines().nth(1).unwrap();
    assert!(shown.contains(&new.id) && !shown.contains(secret), "{shown}");
}
