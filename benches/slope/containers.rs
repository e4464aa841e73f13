//! Many containers of one process at the same time, and as many at once as there are processors.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use cofferdam_sandbox::{
    ContainerSpec, Program, Sandbox, Streams,
    image::{Image, Store},
    spawner::Spawner,
};
use tokio::{runtime::Runtime, task::JoinSet};

use super::Result;

/// A sandbox with one image.
pub(crate) struct Bench {
    sandbox: Sandbox,
    image: Arc<Image>,
}

impl Bench {
    pub(crate) fn open(spawner: Spawner, state: &Path, runtime: &Runtime) -> Result<Self> {
        let _guard = runtime.enter();
        let sandbox = Sandbox::open(spawner, state)?;
        Ok(Self { sandbox, image: Arc::new(Store::open(state)?.get("bench")?) })
    }

    pub(crate) async fn close(self) -> Result<()> {
        match self.sandbox.close().await.as_slice() {
            [] => Ok(()),
            left => Err(format!("left behind: {left:?}").into()),
        }
    }

    /// `count` at once that do nothing: what each takes of this process's memory.
    pub(crate) async fn idle(&self, count: usize) -> Result<()> {
        // What is made once is not theirs.
        run_true(&self.sandbox, &self.image).await?;
        let before = resident()?;
        let mut containers = Vec::new();
        for _ in 0..count {
            let container =
                self.sandbox.create(ContainerSpec::new(Arc::clone(&self.image))).await?;
            let program = Program::new(["/bin/sleep", "3600"]);
            let process = container.start(program, Streams::null()?, None).await?;
            containers.push((container, process));
        }
        let each = resident()?.saturating_sub(before) / count.max(1) as u64;
        println!("\n{count} idle containers: {each} KiB of the runner's memory each");
        for (container, _) in &containers {
            container.end().await?;
        }
        Ok(())
    }

    /// How long `count` take, as many at once as there are processors.
    pub(crate) async fn bare(&self, count: usize) -> Result<Duration> {
        let lanes = std::thread::available_parallelism()?.get();
        self.sandbox.expect(count);
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..lanes {
            let (sandbox, image) = (self.sandbox.clone(), Arc::clone(&self.image));
            tasks.spawn(async move {
                for _ in 0..count / lanes {
                    run_true(&sandbox, &image).await.map_err(|error| error.to_string())?;
                }
                Ok::<(), String>(())
            });
        }
        while let Some(lane) = tasks.join_next().await {
            lane??;
        }
        Ok(began.elapsed())
    }
}

async fn run_true(sandbox: &Sandbox, image: &Arc<Image>) -> Result<()> {
    let container = sandbox.create(ContainerSpec::new(Arc::clone(image))).await?;
    let program = Program::new(["/bin/true"]);
    container.start(program, Streams::null()?, None).await?.wait().await?;
    container.end().await?;
    Ok(())
}

/// KiB of this process's memory that are resident.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(number.parse()?)
}
