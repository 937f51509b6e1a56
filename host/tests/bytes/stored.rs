//! Components on disk, where anything may have happened to them.

use std::fs;

use palfrey_host::{plugin::ComponentStore, task::Digest};

use crate::{
    hostile::{hostile, within},
    samples::component,
};

pub(crate) fn attack(input: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let store = ComponentStore::in_directory(folder.path()).unwrap();
    let (component, bytes) = (component(), hostile(&[component()], input));
    let digest = Digest::of(&component);
    store.put(&digest, &component).unwrap();
    let files = fs::read_dir(folder.path().join("components")).unwrap();
    let [file] = files.map(|file| file.unwrap().path()).collect::<Vec<_>>().try_into().unwrap();
    fs::write(&file, &bytes).unwrap();
    let whole = bytes == component;
    within(4, &bytes, || assert_eq!(store.get(&digest).unwrap(), whole.then_some(component)));
    assert_eq!(file.exists(), whole, "what is damaged is removed");
}
