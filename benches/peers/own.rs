//! Cofferdam as a library, in a worker: complete containers with the default limits.

use std::{
    fs::File,
    io::Read as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use cofferdam_sandbox::{
    Container, ContainerSpec, Program, Sandbox, Streams,
    image::{Image, Store},
    spawner,
};
use tokio::task::JoinSet;

use super::{
    first_instruction::{self, LENGTH},
    worker::{self, Order, Result},
};

const AT_ONCE: usize = 8;
const PAUSE: Duration = Duration::from_millis(20);

/// Serves with the state directory `state`, in which the image `bench` is.
pub(crate) fn work(state: &Path) -> Result<()> {
    let spawner = spawner::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let sandbox = {
        let _guard = runtime.enter();
        Sandbox::open(spawner, state)?
    };
    let image = Arc::new(Store::open(state)?.get("bench")?);
    worker::serve(|order| {
        runtime.block_on(async {
            match order {
                Order::Each(count) => each(&sandbox, &image, count).await,
                Order::Arrivals(count) => arrivals(&sandbox, &image, count).await,
                Order::AtOnce(count) => at_once(&sandbox, &image, count).await,
            }
        })
    })?;
    match runtime.block_on(sandbox.close()).as_slice() {
        [] => Ok(()),
        left => Err(format!("left behind: {left:?}").into()),
    }
}

async fn run_true(sandbox: &Sandbox, image: &Arc<Image>) -> Result<()> {
    let container = sandbox.create(ContainerSpec::new(Arc::clone(image))).await?;
    let exit =
        container.start(Program::new(["/bin/true"]), Streams::null()?, None).await?.wait().await?;
    if exit.code() != Some(0) {
        return Err(format!("`true` ended with {exit:?}").into());
    }
    Ok(end(container).await?)
}

async fn end(container: Container) -> cofferdam_sandbox::Result<()> {
    container.end().await?;
    drop(container);
    Ok(())
}

async fn each(sandbox: &Sandbox, image: &Arc<Image>, count: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    sandbox.expect_like(ContainerSpec::new(Arc::clone(image)), count);
    for _ in 0..count {
        let began = Instant::now();
        run_true(sandbox, image).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

async fn at_once(sandbox: &Sandbox, image: &Arc<Image>, count: usize) -> Result<Vec<Duration>> {
    sandbox.expect_like(ContainerSpec::new(Arc::clone(image)), count);
    let began = Instant::now();
    let mut lanes = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (sandbox, image) = (sandbox.clone(), Arc::clone(image));
        lanes.spawn(async move {
            for _ in 0..count / AT_ONCE {
                run_true(&sandbox, &image).await.map_err(|error| error.to_string())?;
            }
            Ok::<(), String>(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(vec![began.elapsed()])
}

async fn arrivals(sandbox: &Sandbox, image: &Arc<Image>, count: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    sandbox.expect_like(ContainerSpec::new(Arc::clone(image)), count);
    for _ in 0..count {
        tokio::time::sleep(PAUSE).await;
        let asked = first_instruction::now()?;
        let container = sandbox.create(ContainerSpec::new(Arc::clone(image))).await?;
        let (output, input) = std::io::pipe()?;
        let null = File::options().write(true).open("/dev/null")?;
        let streams = Streams::output(input.into(), null.into());
        container.start(Program::new(["/bin/first"]), streams, None).await?.wait().await?;
        let mut written = [0; LENGTH];
        File::from(std::os::fd::OwnedFd::from(output)).read_exact(&mut written)?;
        times.push(first_instruction::parse(written).saturating_sub(asked));
        end(container).await?;
    }
    Ok(times)
}
