//! Where the faults happen.

use std::time::Duration;

use palfrey_host::{directive::*, plugin::DeployOptions};
use palfrey_rabbitmq::{Node, NodeOptions};
use palfrey_tests::{Conduct, Deployments, Exact, FREE, Frame, Program, Proxy, Remote, Scene, component, soon};
use text::{CharToString, Concat};
use tokio::time::{Instant, sleep_until};

use crate::{
    FAULTS_PER_JOB,
    fault::{Fault, WORKERS, Whose},
};

/// RabbitMQ writes down within a second or so which queues there are. One that is killed before has forgotten them.
const REMEMBERED: Duration = Duration::from_secs(2);

/// A frame that is due comes within that time, mostly.
const SPRINGS: Duration = Duration::from_secs(1);

/// Of each element of the map: with it the elements that come with a fault keep two cores busy for seconds.
const WORK: u64 = 300_000;

/// A broker and its workers.
pub(crate) struct Theatre {
    scene: Scene,
    workers: Vec<Remote>,
}

/// Jobs under way, from their beginning to their end.
pub(crate) struct Act {
    program: Program,
    exact: Exact,
    /// What the jobs have been given. They get more with each fault, so that none finds them idle.
    share: u64,
    deployments: Option<Deployments>,
}

impl Act {
    /// Elements that the jobs have done.
    pub(crate) fn done(&self) -> (u64, u64) {
        self.exact.done()
    }
}

impl Theatre {
    pub(crate) async fn open() -> Self {
        let scene = Scene::with_a_node(NodeOptions::new()).await;
        scene.world().deploy(&["text", "probe-1"]).await;
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(scene.worker(&[]).await);
        }
        Self { scene, workers }
    }

    pub(crate) async fn begin(&self, deploys: bool) -> Act {
        let program = self.scene.program().await;
        let exact = Exact::start_without_elements(&program.runtime, 1, WORK).await;
        let deployments = if deploys { Some(Deployments::start(self.scene.program().await)) } else { None };
        Act { program, exact, share: 0, deployments }
    }

    pub(crate) async fn end(&mut self, act: Act) {
        let Act { program, exact, deployments, .. } = act;
        if let Some(deployments) = deployments {
            deployments.end().await;
        }
        self.replace_the_dead().await;
        exact.finish().await;
        program.close().await;
        self.replace_the_dead().await;
        self.scene.is_clean(&self.workers).await;
    }

    /// A job of another program comes out right.
    pub(crate) async fn answers(&mut self, act: &Act) {
        self.replace_the_dead().await;
        let text = "What happens meanwhile is nobody's business.";
        let options = JobOptions::default().batch_size(BatchSize::Fixed(3.try_into().expect("it is not zero")));
        let source = IndexedStream::from(text.chars().collect::<Vec<_>>()).options(options);
        let answer = soon(source.map(&CharToString).fold(&Concat).run(&act.program.runtime)).await;
        assert_eq!(answer.expect("the job ends well"), text);
    }

    pub(crate) async fn strike(&mut self, act: &mut Act, fault: Fault) {
        self.replace_the_dead().await;
        act.share += FREE / u64::from(FAULTS_PER_JOB);
        act.exact.give(act.share);
        match fault {
            Fault::Kill { worker } => {
                let fresh = self.scene.worker(&[]).await;
                kill(std::mem::replace(&mut self.workers[worker], fresh)).await;
            }
            Fault::Doom { worker, moment, occasion } => {
                let rules = format!("{moment}/text/concat=abort@{occasion}");
                let doomed = self.scene.start_worker(&[], &rules).await;
                kill(std::mem::replace(&mut self.workers[worker], doomed)).await;
            }
            Fault::KillAll => {
                for worker in 0..self.workers.len() {
                    let fresh = self.scene.start_worker(&[], "").await;
                    kill(std::mem::replace(&mut self.workers[worker], fresh)).await;
                }
            }
            Fault::Confuse { worker } => {
                let fresh = self.scene.with_jumping_clocks().worker(&[]).await;
                kill(std::mem::replace(&mut self.workers[worker], fresh)).await;
            }
            Fault::Stop { worker, time } => {
                self.workers[worker].process.signal("STOP");
                pass(time).await;
                self.workers[worker].process.signal("CONT");
            }
            Fault::Terminate { worker } => {
                let fresh = self.scene.worker(&[]).await;
                let mut leaving = std::mem::replace(&mut self.workers[worker], fresh);
                // Before that it does not listen.
                leaving.process.ready().await;
                leaving.process.signal("TERM");
                let code = leaving.process.ended().await;
                assert!(code == 0 || code == ABORTED, "it ended with {code}");
            }
            Fault::Network { whose, conduct, time } => {
                let network = self.network(act, whose);
                network.conduct(conduct);
                if conduct == Conduct::Refuse {
                    network.cut();
                }
                pass(time).await;
                network.conduct(Conduct::Forward);
            }
            Fault::Cut { whose, times } => {
                for _ in 0..times {
                    self.network(act, whose).cut();
                    pass(Duration::from_millis(50)).await;
                }
            }
            Fault::CutAt { whose, side, frame } => {
                let network = self.network(act, whose);
                // It may be that nothing of the kind is due: then the trap stays, and springs later.
                let springs = network.cut_at(side, frame, 0);
                if frame == Frame::Consume {
                    network.cut();
                }
                _ = tokio::time::timeout(SPRINGS, springs).await;
            }
            Fault::Restart => self.scene.node(Node::restart).await,
            Fault::Crash { time } => {
                pass(REMEMBERED).await;
                self.scene.node(Node::kill).await;
                pass(time).await;
                self.scene.node(Node::restart).await;
            }
            Fault::Alarm { of, time } => {
                self.scene.node(move |node| node.raise_alarm(of)).await;
                pass(time).await;
                self.scene.node(move |node| node.clear_alarm(of)).await;
            }
            Fault::Delete => self.scene.delete_queue("default").await,
            Fault::CutDeployment { side, frame, spared } => {
                let operator = self.scene.program().await;
                let cut = operator.network.cut_at(side, frame, spared);
                let options = DeployOptions { force: true, ..DeployOptions::default() };
                let deploying = soon(operator.runtime.deploy_with(component("digest"), &options));
                let cut = tokio::time::timeout(SPRINGS, cut);
                let (deployed, _) = futures::join!(deploying, cut);
                deployed.expect("it is deployed in the end");
                operator.close().await;
            }
            Fault::Abandon => {
                let (gone, jobs) = self.bystander().await;
                gone.network.conduct(Conduct::Refuse);
                gone.network.cut();
                drop((jobs, gone));
            }
            Fault::Abort => {
                let (program, jobs) = self.bystander().await;
                drop(jobs);
                // It stays until it has told everybody.
                pass(Duration::from_millis(500)).await;
                drop(program);
            }
        }
    }

    /// Another program with jobs under way.
    async fn bystander(&self) -> (Program, Exact) {
        let program = self.scene.program().await;
        let exact = Exact::start(&program.runtime, 1).await;
        pass(Duration::from_millis(500)).await;
        (program, exact)
    }

    fn network<'a>(&'a self, act: &'a Act, whose: Whose) -> &'a Proxy {
        match whose {
            Whose::Worker(worker) => &self.workers[worker].network,
            Whose::Program => &act.program.network,
        }
    }

    /// Workers whose failpoints have killed them get successors.
    async fn replace_the_dead(&mut self) {
        for index in 0..self.workers.len() {
            if !self.workers[index].process.is_running() {
                let code = self.workers[index].process.ended().await;
                assert_eq!(code, ABORTED, "a worker ended by itself:\n{}", self.workers[index].process.log());
                self.workers[index] = self.scene.worker(&[]).await;
            }
        }
    }
}

/// How a shell tells of a process that has aborted.
const ABORTED: i32 = 128 + 6;

/// Kills a worker, unless its own failpoint was quicker.
async fn kill(mut worker: Remote) {
    worker.process.signal("KILL");
    let code = worker.process.ended().await;
    assert!(code == KILLED || code == ABORTED, "it ended with {code}");
}

/// How a shell tells of a process that was killed.
const KILLED: i32 = 128 + 9;

/// Lets time pass: here it is the fault itself.
async fn pass(time: Duration) {
    sleep_until(Instant::now() + time).await;
}
