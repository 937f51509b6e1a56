//! What other tools for AMQP see of a dead letter.

use lapin::{
    ConnectionProperties,
    options::BasicGetOptions,
    types::{AMQPValue, FieldTable},
};
use palfrey_host::queue::QueueKind::Tasks;

use crate::world::{World, next, publish, soon};

#[tokio::test]
async fn a_dead_letter_explains_itself_in_its_headers() {
    let world = World::amqp();
    let (_connection, queue) = world.declare(Tasks).await;
    publish(&queue, &["garbage"]).await;
    let mut deliveries = queue.consumer(1).await.unwrap();
    next(&mut deliveries).await.acker.nack().await.unwrap();
    next(&mut deliveries).await.acker.dead_letter("it is no task").await.unwrap();

    let uri = palfrey_rabbitmq::shared_uri().unwrap();
    let connection = soon(lapin::Connection::connect(&uri, ConnectionProperties::default())).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let dead = queue.spec().dead_letters().unwrap().name;
    let letter = soon(channel.basic_get(dead.as_str().into(), BasicGetOptions::default())).await.unwrap().unwrap();
    let headers: &FieldTable = letter.properties.headers().as_ref().unwrap();
    let header = |name: &str| headers.inner().get(name).unwrap_or_else(|| panic!("{name} is in {headers:?}"));
    assert_eq!(header("palfrey-reason"), &AMQPValue::LongString("it is no task".into()));
    assert_eq!(header("palfrey-queue"), &AMQPValue::LongString(queue.spec().name.as_str().into()));
    assert_eq!(header("palfrey-deliveries"), &AMQPValue::LongLongInt(2));
    let AMQPValue::LongLongInt(time) = header("palfrey-time") else { panic!("{headers:?}") };
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    assert!((now - 60_000..=now).contains(time), "{time} is about now, in milliseconds");
}
