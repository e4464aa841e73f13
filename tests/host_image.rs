//! The image `host` for users on hosts whose `/usr` is not all of one file system.
//!
//! The mounts are those of a namespace of the test's own.

use crate::{
    binary::{Cofferdam, program, wait},
    host::{Need, needs},
};

/// Without root it cannot be made of a part of `/usr`; what is in the way is named before anything
/// is put up, with what to do.
#[test]
fn a_mount_below_usr_is_named() {
    needs!(Need::User, Need::Containers, Need::Program("unshare"), Need::Program("setpriv"));
    let cofferdam = Cofferdam::new();
    let run = |script: &str| {
        let plain = cofferdam.command(["exec", "host", "--", "echo", "it stands"]);
        let mut command = program("unshare");
        command.args(["--user", "--map-current-user", "--mount", "--keep-caps", "sh", "-c"]);
        let drop = "exec setpriv --ambient-caps=-all --inh-caps=-all -- \"$@\"";
        command.arg(format!("{script}{drop}")).arg("sh");
        command.arg(plain.get_program()).args(plain.get_args()).env_clear();
        for (name, value) in plain.get_envs() {
            command.envs(value.map(|value| (name, value)));
        }
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        wait(command.spawn().expect("start"))
    };
    assert_eq!(run("").expect(0).stdout, "it stands\n");
    let ended = run("mount -t tmpfs none /usr/local && ").expect(125);
    ended.says(&["`/usr/local` is mounted below it", "use an image other than `host`"]);
}
