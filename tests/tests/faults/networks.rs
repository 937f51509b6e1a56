//! Connections are cut, fall silent, and get slow.

use palfrey_tests::{Frame, Scene, Side};

use crate::Cast;

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_at_every_kind_of_frame_cost_nothing() {
    let scene = Scene::new();
    let cast = Cast::of(&scene, 2).await;
    for (worker, side) in cast.workers.iter().zip([Side::Before, Side::After]) {
        for frame in [Frame::Publish, Frame::Confirm, Frame::Consume, Frame::Deliver, Frame::Acknowledge] {
            worker.network.cut_at(side, frame, 0).await;
        }
    }
    cast.all_is_well(&scene).await;
}
