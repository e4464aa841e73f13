//! `workspace: git`: the project as it is committed, as a layer for jobs.
//!
//! Git obeys the configuration of the repository that it works on, which may name programs to run.
//! So it runs in a container like a job, with nothing but the repository in sight, and what it has
//! written there is the layer: nothing is copied. All that is written there is what jobs start in,
//! so it must not run these programs there either: files are read by a repository of its own, which
//! has the objects and the names of the project's, and neither its configuration nor its attributes
//! and replacements.

use std::{fs, path::Path, sync::Arc};

use cofferdam_sandbox::{
    ContainerSpec, Exit as ProgramExit, Limits, Mount, Program, Sandbox, ScratchKind, State,
    Streams, image::Image, with_causes,
};

use crate::{
    exit::Exit,
    git,
    problem::Problem,
    supervise::{Chunk, OutputPipes, PATH},
};

/// Bytes of what git says that are kept.
const KEPT: usize = 4096;

/// Its arguments are where the repository is, and where its objects are. Git is told of a working
/// tree because the repository may name one that is not here. Names are for `export-subst`
/// (gitattributes(5)).
const SCRIPT: &str = "\
set -e
export GIT_NO_LAZY_FETCH=1
theirs() { git -c safe.directory='*' --git-dir=\"$where\" --work-tree=/tmp \"$@\"; }
where=$1
commit=$(theirs rev-parse --verify HEAD)
format=sha1
[ ${#commit} = 40 ] || format=sha256
git init -q --bare --template= --object-format=$format /tmp/own
theirs for-each-ref --format='%(objectname) %(refname)' refs/heads refs/remotes refs/tags \
    > /tmp/own/packed-refs
export GIT_ALTERNATE_OBJECT_DIRECTORIES=\"$2\"
git --git-dir=/tmp/own archive --format=tar -o /tmp/tree.tar \"$commit\"
tar -xf /tmp/tree.tar -C /workspace
rm -r /tmp/own /tmp/tree.tar";

/// Exports what is committed at `HEAD` of `project`.
pub(in crate::execute) async fn export(
    sandbox: &Sandbox,
    image: Arc<Image>,
    project: &Path,
    scratch: ScratchKind,
) -> Result<Arc<State>, Problem> {
    let problem = || {
        let project = project.display();
        let what = format!("failed to export what is committed in `{project}`");
        Problem::new(Exit::NoInput, what)
    };
    const INSIDE: &str = "/project/.git";
    let mut repository = project.join(".git");
    let mut inside = INSIDE.to_owned();
    if let Some(linked) = git::linked(project) {
        repository = linked.common;
        inside = format!("{inside}/{}", linked.own);
    } else if !fs::symlink_metadata(&repository).is_ok_and(|it| it.is_dir()) {
        // Not through a link: the project may have been brought by somebody who cannot read what
        // the caller can.
        let remedy = "run it in the top directory of a git repository, or use `workspace: cow`";
        let why =
            "it has no `.git` of its own, or one that leads to no repository of this directory";
        return Err(problem().because(why).remedy(remedy));
    }
    let spec = ContainerSpec {
        mounts: vec![Mount { source: repository, target: INSIDE.to_owned(), read_only: true }],
        limits: Limits::default(),
        scratch,
        keep: true,
        ..ContainerSpec::new(image)
    };
    let sandbox_problem = |error| Problem::sandbox(Exit::System, error);
    let container = sandbox.create(spec).await.map_err(sandbox_problem)?;
    let (mut pipes, stdout, stderr) =
        OutputPipes::new().map_err(|error| problem().because(error))?;
    let mut program =
        Program::new(["/bin/sh", "-c", SCRIPT, "sh", &inside, &format!("{INSIDE}/objects")]);
    program.env = vec![("PATH".to_owned(), PATH.to_owned())];
    let started = container.start(program, Streams::output(stdout, stderr), None).await;
    let mut process = started.map_err(sandbox_problem)?;
    let mut said = Vec::new();
    // It is over when nothing can write any more.
    while let Ok(Some(chunk)) = pipes.next().await {
        if let Chunk::Bytes(_, bytes) = chunk {
            said.extend_from_slice(&bytes);
            said.truncate(KEPT);
        }
    }
    let exit = process.wait().await;
    container.stop().await.map_err(sandbox_problem)?;
    let state = match exit.as_ref().map(|exit: &ProgramExit| exit.code()) {
        Ok(Some(0)) => container.state().map_err(sandbox_problem),
        Ok(_) => {
            let text = String::from_utf8_lossy(&said);
            let line = text.lines().next().unwrap_or("git failed without a message").to_owned();
            Err(problem().because(line).remedy("commit something first; git must be installed"))
        }
        Err(error) => Err(problem().because(with_causes(error))),
    };
    container.end().await.map_err(sandbox_problem)?;
    state
}
