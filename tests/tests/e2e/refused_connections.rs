//! What keeps the command line from a broker, and what it says then.

use std::net::{Ipv4Addr, TcpListener};

use futures::join;
use palfrey_tests::{Conduct, Frame, Proxy, Ran, Side, World};

/// Everything that speaks to a broker.
const COMMANDS: [&[&str]; 4] = [&["worker"], &["plugins"], &["undeploy", "arith"], &["inspect", "arith"]];

async fn refused(uri: String, expected: &str) {
    let world = World::at(uri);
    for arguments in COMMANDS {
        let Ran { code, stdout, stderr } = world.palfrey(arguments).await;
        assert_eq!((code, stdout.as_str()), (3, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains("error: ") && stderr.contains(expected), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{arguments:?} shows the password: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_broker_is_named() {
    // Bound and let go: nobody listens there.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let expected = format!("cannot reach the broker at 127.0.0.1:{port}: is it running, and is the address right?");
    refused(format!("amqp://me:hunter2@127.0.0.1:{port}/%2f"), &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_and_not_shown() {
    let uri = palfrey_rabbitmq::shared_uri().unwrap();
    let (_, rest) = uri.split_once("//").unwrap();
    let (user, place) = (rest.split_once(':').unwrap().0, rest.split_once('@').unwrap().1);
    let expected = format!("refused user `{user}`: check the name and the password in the URI");
    refused(format!("amqp://{user}:hunter2@{place}"), &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_virtual_host_is_named() {
    let uri = palfrey_rabbitmq::shared_uri().unwrap();
    let (broker, _) = uri.rsplit_once('/').unwrap();
    refused(format!("{broker}/nowhere"), "has no virtual host `nowhere`").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_and_stays_away_is_an_error_after_the_reconnect_timeout() {
    let world = World::new();
    world.deploy(&["arith"]).await;
    for arguments in [&["worker"], &["workers"], &["plugins"]] {
        let network = Proxy::to(world.uri()).await;
        // It is in the middle of something: what it asks the broker for does not come.
        let gone = network.cut_at(Side::Before, Frame::Deliver, 0);
        let beyond = World::at(network.uri().to_owned());
        let arguments = [arguments, &["--reconnect-timeout", "500ms", "--log", "warn"][..]].concat();
        let (Ran { code, stdout, stderr }, ()) = join!(beyond.palfrey(&arguments), async {
            gone.await;
            network.conduct(Conduct::Refuse);
            network.cut();
        });
        assert_eq!((code, stdout.as_str()), (3, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains("the broker did not come back"), "{arguments:?}: {stderr}");
        assert!(stderr.ends_with("error: the connection is closed\n"), "{arguments:?}: {stderr}");
    }
}
