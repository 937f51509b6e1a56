//! AMQPS against a node with TLS, by authorities and certificates that the test makes.

use std::path::Path;

use palfrey_host::{Config, Runtime};
use palfrey_rabbitmq::NodeOptions;
use palfrey_tests::{World, component_file, soon};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// An authority: who vouches for certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Writes `<name>.pem` and `<name>.key`, for a name on the network, valid until a year.
    fn issue(&self, folder: &Path, name: &str, host: &str, until: i32) {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        std::fs::write(folder.join(format!("{name}.pem")), certificate).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// Certificates: `server` for 127.0.0.1, `client`, and `stranger`, whom another authority knows.
fn certificates() -> (TempDir, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    ours.issue(folder.path(), "server", "127.0.0.1", 2100);
    ours.issue(folder.path(), "client", "client", 2100);
    others.issue(folder.path(), "stranger", "client", 2100);
    std::fs::write(folder.path().join("ca.pem"), &ours.certificate).unwrap();
    std::fs::write(folder.path().join("others.pem"), &others.certificate).unwrap();
    (folder, ours)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_prove_who_they_are_and_a_refusal_says_which_certificate_is_at_fault() {
    let (folder, authority) = certificates();
    let node = NodeOptions::new().tls(folder.path(), true).start().unwrap();
    let at = |host: &str, port: u16| World::at(format!("amqps://palfrey:palfrey@{host}:{port}/%2f"));
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let world = at("127.0.0.1", node.tls_port());
    let identity = |ca: &str, who: &str| {
        let (ca, cert, key) = (file(ca), file(&format!("{who}.pem")), file(&format!("{who}.key")));
        ["--amqp-ca".to_owned(), ca, "--amqp-cert".to_owned(), cert, "--amqp-key".to_owned(), key]
    };
    let with = |command: &[&str], identity: &[String]| -> Vec<String> {
        command.iter().map(|&word| word.to_owned()).chain(identity.iter().cloned()).collect()
    };
    let us = identity("ca.pem", "client");

    // A whole job.
    let words = |words: &[String]| words.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    let arguments = words(&us);
    let arguments: Vec<_> = arguments.split('\n').collect();
    let loud = ["--log", "trace"];
    let worker = world.worker(&[&arguments[..], &loud].concat()).await;
    let arith = component_file("arith");
    world.done(&[&["deploy", arith.to_str().unwrap()], &arguments[..]].concat()).await;
    let config = Config {
        amqp_ca: Some(file("ca.pem").into()),
        amqp_cert: Some(file("client.pem").into()),
        amqp_key: Some(file("client.key").into()),
        ..world.config()
    };
    let runtime = soon(Runtime::from_config(&config)).await.unwrap();
    assert_eq!(soon(runtime.call("arith/fib-at", &[][..], vec![10])).await.unwrap()[..], [55]);
    soon(runtime.close()).await.unwrap();
    let key = std::fs::read_to_string(folder.path().join("client.key")).unwrap();
    assert!(worker.log().has(&["TRACE"]) && !worker.log().has(&[key.lines().nth(1).unwrap()]), "{}", worker.log());
    drop(worker);

    let refused = async |world: &World, identity: &[String], code: i32, expect: &str| {
        for command in ["plugins", "worker"] {
            let arguments = with(&[command], identity);
            let ran = world.palfrey(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
            assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{arguments:?}: {}", ran.stderr);
            assert!(ran.stderr.contains(expect), "{arguments:?}: {}", ran.stderr);
        }
    };
    let port = node.tls_port();
    let untrusted =
        format!("error: no trusted connection to the broker at 127.0.0.1:{port}: its certificate is issued by");
    refused(&world, &identity("others.pem", "client"), 3, &untrusted).await;
    refused(&at("localhost", port), &us, 3, "its certificate is not for `localhost`, but for").await;
    refused(&world, &us[..2], 3, "it wants a client certificate: name one with --amqp-cert and --amqp-key").await;
    refused(&world, &identity("ca.pem", "stranger"), 3, "it does not know who issued our client certificate").await;
    refused(&at("127.0.0.1", node.port()), &us, 3, "it does not speak TLS at this port").await;
    refused(&World::at(node.uri()), &us, 2, "it does not begin with amqps://").await;

    // Files that cannot be used are named.
    refused(&world, &us[..4], 2, "a client certificate needs both --amqp-cert and --amqp-key").await;
    refused(&world, &identity("nowhere.pem", "client"), 2, "nowhere.pem").await;
    let swapped = ["--amqp-ca".to_owned(), file("client.key")];
    refused(&world, &swapped, 2, "cannot read a certificate from").await;
    let mut mixed = us.clone();
    mixed[5] = file("server.key");
    refused(&world, &mixed, 2, "client.pem with ").await;

    authority.issue(folder.path(), "server", "127.0.0.1", 2020);
    node.restart().unwrap();
    refused(&world, &us, 3, "its certificate has expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_asks_for_no_certificate_is_still_verified() {
    let (folder, _) = certificates();
    let node = NodeOptions::new().tls(folder.path(), false).start().unwrap();
    let world = World::at(format!("amqps://palfrey:palfrey@127.0.0.1:{}/%2f", node.tls_port()));
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let done = world.done(&["plugins", "--amqp-ca", &file("ca.pem")]).await;
    assert!(done.starts_with("nothing is deployed"), "{done}");
    let ran = world.palfrey(&["plugins", "--amqp-ca", &file("others.pem")]).await;
    assert!(ran.code == 3 && ran.stderr.contains("its certificate is issued by an authority"), "{}", ran.stderr);
}
