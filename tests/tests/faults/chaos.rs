//! A short run of `cargo xtask chaos`.

use tokio::process::Command;

#[tokio::test]
async fn faults_at_random_leave_results_exact() {
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    let ran = chaos.args(["--seed", "1", "--faults", "10"]).kill_on_drop(true).output().await.unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && said.contains("10 faults in"), "{said}{wrong}");
}
