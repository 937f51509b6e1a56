//! Passwords and keys are shown by nothing: no log at any level, no error, no command line.

use std::{fs, path::Path};

use palfrey_tests::{Proxy, Ran, World, component};
use rcgen::{CertificateParams, KeyPair};

use crate::health::Probes;

/// Long enough that nothing else looks like it.
const PASSWORD: &str = "distinctive-hunter2-Zq8vXk";
const KEY_PASSWORD: &str = "distinctive-correct-horse-9fTb";

/// Everything, what the client library says included.
const LOUD: [&str; 2] = ["--log", "trace,lapin=trace,lapin::io_loop=trace,amq_protocol=trace,amq_protocol_tcp=trace"];

fn check(what: &str, text: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!text.contains(secret), "{what} shows {secret}:\n{text}");
    }
}

/// Command lines and environments of processes that were told about a file.
fn processes(file: &str) -> Vec<String> {
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let all = entries.map(|path| (read(&path.join("cmdline")), read(&path.join("environ")), read(&path.join("comm"))));
    all.filter(|(command, ..)| command.contains(file))
        .map(|(command, environ, name)| command + &environ + &name)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_keys_are_shown_by_nothing() {
    let shared = World::new();
    let (_, vhost) = shared.uri().rsplit_once('/').unwrap();
    let add_user = format!(
        "U = <<\"carol\">>, A = <<\".*\">>, ok = rabbit_auth_backend_internal:add_user(U, <<\"{PASSWORD}\">>, U), \
         rabbit_auth_backend_internal:set_permissions(U, <<\"{vhost}\">>, A, A, A, U)"
    );
    palfrey_rabbitmq::evaluate_at(shared.uri(), &add_user).unwrap();
    let network = Proxy::to(shared.uri()).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let place = network.uri().rsplit_once('@').unwrap().1.to_owned();
    let (address, _) = place.split_once('/').unwrap();
    let password = write("password", format!("{PASSWORD}\n").as_bytes());
    let uri = write("uri", format!("amqp://carol:{PASSWORD}@{place}\n").as_bytes());
    let (by_password, by_uri) = (["--amqp-password-file", &*password], ["--amqp-uri-file", &*uri]);
    let world = World::at(format!("amqp://carol@{place}"));
    let arith = write("arith.wasm", &component("arith"));

    // Keys first: what is signed is deployed below.
    let key_password = write("key-password", KEY_PASSWORD.as_bytes());
    let name = folder.path().join("release").to_str().unwrap().to_owned();
    let mut said = Vec::new();
    let mut run = async |arguments: &[&str], world: &World, code: i32| {
        let Ran { code: ended, stdout, stderr } = world.palfrey(&[arguments, &LOUD[..]].concat()).await;
        assert_eq!(ended, code, "{arguments:?}: {stderr}");
        said.push((arguments.join(" "), stdout + &stderr));
    };
    let by_key = ["--password-file", &*key_password];
    run(&[&["keygen", &name], &by_key[..]].concat(), &world, 0).await;
    let key = format!("{name}.key");
    run(&[&["sign", "--key", &key, &arith], &by_key[..]].concat(), &world, 0).await;
    run(&["sign", "--key", &key, "--password-file", &password, &arith], &world, 2).await;

    // It works.
    let public = format!("{name}.pub");
    let listening = ["--trust", &public, "--health-listen", "127.0.0.1:0"];
    let mut worker = world.worker(&[&listening, &by_password[..], &LOUD[..]].concat()).await;
    let probes = Probes::of(&worker).await;
    run(&[&["deploy", &arith], &by_uri[..]].concat(), &world, 0).await;
    run(&[&["plugins"], &by_password[..]].concat(), &world, 0).await;
    worker.log().until(&["loaded", "arith"]).await;
    for command in [&["workers"][..], &["jobs"], &["dead", "list"]] {
        run(&[command, &by_password].concat(), &world, 0).await;
        run(&[command, &["--json"], &by_uri].concat(), &world, 0).await;
    }
    for command in ["cancel", "drain"] {
        run(&[&[command, "zz"], &by_password[..]].concat(), &world, 4).await;
    }
    let mut probed = vec![probes.until(200, "broker", "ok").await];
    let running = processes(&password);
    assert!(!running.is_empty(), "the worker runs");
    for process in running {
        check("a process", &process, &[PASSWORD, KEY_PASSWORD]);
    }

    // And it fails, in all the ways that have something to say of the connection.
    let at = |place: &str| World::at(format!("amqp://{place}"));
    run(&[&["plugins"], &by_password[..]].concat(), &at(&format!("nobody@{place}")), 3).await;
    run(&[&["plugins"], &by_password[..]].concat(), &at(&format!("carol@{address}/nowhere")), 3).await;
    run(&[&["plugins"], &by_password[..]].concat(), &at("carol@127.0.0.1:1/%2f"), 3).await;
    run(&[&["plugins"], &by_password[..]].concat(), &World::at(format!("amqps://carol@{place}")), 3).await;
    for text in [PASSWORD.to_owned(), format!("amqp:{PASSWORD}"), format!("http://carol:{PASSWORD}@host/")] {
        let broken = write("broken", text.as_bytes());
        run(&["plugins", "--amqp-uri-file", &broken], &world, 2).await;
    }
    for place in ["host", "host:99999/", ""] {
        let scheme = if place == "host" { "http" } else { "amqp" };
        let broken = format!("{scheme}://carol:{PASSWORD}@{place}");
        run(&["plugins", "--amqp-uri", &broken], &world, 2).await;
        run(&["plugins"], &World::at(broken), 2).await;
    }
    let broken = write("broken", format!("{PASSWORD} \u{0}").as_bytes());
    let binary = write("binary", &[PASSWORD.as_bytes(), &[0xff]].concat());
    run(&["plugins", "--amqp-uri-file", &broken], &world, 2).await;
    run(&["plugins", "--amqp-password-file", &binary], &world, 2).await;

    // A client's certificate, at a broker that has none, with a key that is another's, and with one that is cut off.
    let pair = KeyPair::generate().unwrap();
    let certificate =
        |pair: &KeyPair| CertificateParams::new(["carol".to_owned()]).unwrap().self_signed(pair).unwrap().pem();
    let certificates = [&pair, &KeyPair::generate().unwrap()].map(certificate);
    let [ours, anothers] = ["ours.pem", "anothers.pem"].map(|name| folder.path().join(name));
    fs::write(&ours, &certificates[0]).unwrap();
    fs::write(&anothers, &certificates[1]).unwrap();
    let tls_key = pair.serialize_pem();
    let whole = write("client.key", tls_key.as_bytes());
    let cut = write("cut.key", &tls_key.as_bytes()[..tls_key.len() / 2]);
    for (certificate, key, code) in [(&ours, &whole, 3), (&anothers, &whole, 2), (&ours, &cut, 2)] {
        let by_certificate = ["--amqp-cert", certificate.to_str().unwrap(), "--amqp-key", key];
        for command in ["plugins", "worker"] {
            let arguments = [&[command], &by_certificate[..], &by_password].concat();
            run(&arguments, &World::at(format!("amqps://carol@{place}")), code).await;
        }
    }

    // The connection is lost, and comes back; the worker is told to end.
    network.cut();
    worker.log().until(&["connected to the broker again"]).await;
    probed.push(probes.until(200, "broker", "ok").await);
    let taking = worker.log().until(&["taking tasks", "worker="]).await;
    let identity = taking.split("worker=").nth(1).unwrap().split(' ').next().unwrap();
    run(&[&["drain", identity], &by_password[..]].concat(), &world, 0).await;
    assert_eq!(worker.ended().await, 0);
    said.push(("the worker".to_owned(), worker.log().to_string()));
    said.extend(probed.iter().map(|answer| ("/readyz".to_owned(), answer.to_string())));

    let secret_key = fs::read_to_string(&key).unwrap();
    // The second line of a file in PEM, and a part of the same bytes as they would be printed.
    let printed = format!("{:?}", &pair.serialize_der()[40..56]);
    let tls = [tls_key.lines().nth(1).unwrap(), printed.trim_matches(['[', ']'])];
    let secrets = [&[PASSWORD, KEY_PASSWORD, secret_key.lines().nth(1).unwrap()], &tls[..]].concat();
    assert!(said.len() > 10 && said.iter().any(|(_, text)| text.contains("TRACE") && text.contains("lapin")));
    for (what, text) in &said {
        check(what, text, &secrets);
    }
}
