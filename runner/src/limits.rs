//! Limits: from what was asked for and what the operator decides to what the sandbox enforces.

use cofferdam_jobs::{
    Configuration, Span, Spanned,
    configuration::{Allowance, Downgrade},
    model::{self, IoLimits},
};
use cofferdam_sandbox::{IoRates, Limits, Policy, Sandbox, cgroup::Limit, seccomp::ForeignAbi};

use crate::{cli, exit::Exit, print, problem::Problem};

/// What a job has that does not say: what the operator decided, or what is built in.
pub(crate) fn defaults(configuration: &Configuration) -> Allowance {
    let built_in = Limits::default();
    let limit = |value| Some(Spanned::new(value, Span::default()));
    configuration.defaults.or(&Allowance {
        limits: model::Limits {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the default is one processor"
            )]
            millicpus: limit((built_in.cpus * 1000.0) as u64),
            memory: limit(built_in.memory),
            pids: limit(built_in.pids),
            disk: limit(built_in.disk),
            inodes: limit(built_in.inodes),
            shm: limit(built_in.shm),
            io: None,
            nofile: limit(built_in.nofile),
            logs: limit(built_in.logs),
        },
        timeout: Some(Spanned::new(built_in.timeout, Span::default())),
    })
}

/// What the sandbox enforces; what nobody has decided on is as it is built in.
pub(crate) fn enforced(allowance: &Allowance) -> Limits {
    let built_in = Limits::default();
    let limits = &allowance.limits;
    let said = |limit: &Option<Spanned<u64>>| limit.as_ref().map(|it| it.value);
    let io = limits.io.as_ref().map(|io| io.value).unwrap_or_default();
    Limits {
        cpus: said(&limits.millicpus).map_or(built_in.cpus, processors),
        memory: said(&limits.memory).unwrap_or(built_in.memory),
        pids: said(&limits.pids).unwrap_or(built_in.pids),
        disk: said(&limits.disk).unwrap_or(built_in.disk),
        inodes: said(&limits.inodes).unwrap_or(built_in.inodes),
        nofile: said(&limits.nofile).unwrap_or(built_in.nofile),
        shm: said(&limits.shm).unwrap_or(built_in.shm),
        io: IoRates { read: io.read, write: io.write },
        logs: said(&limits.logs).unwrap_or(built_in.logs),
        timeout: allowance.timeout.as_ref().map_or(built_in.timeout, |timeout| timeout.value),
    }
}

/// The flags as a pipeline would say them; above a ceiling, the command line is at fault.
pub(crate) fn of_arguments(
    said: &cli::LimitArguments,
    configuration: &Configuration,
) -> Result<Limits, Problem> {
    let here = |value: Option<u64>| value.map(|value| Spanned::new(value, Span::default()));
    let io = (said.io_read.is_some() || said.io_write.is_some())
        .then_some(IoLimits { read: said.io_read, write: said.io_write });
    let asked = Allowance {
        limits: model::Limits {
            millicpus: here(said.cpus),
            memory: here(said.memory),
            pids: here(said.pids),
            disk: here(said.disk),
            inodes: here(said.inodes),
            shm: here(said.shm),
            io: io.map(|io| Spanned::new(io, Span::default())),
            nofile: here(said.nofile),
            logs: here(said.log_limit),
        },
        timeout: said.timeout.map(|timeout| Spanned::new(timeout, Span::default())),
    };
    if let Some(excess) = asked.excesses(&configuration.ceilings).first() {
        let message = format!("the limit `{}` is above what the operator allows", excess.limit);
        return Err(Problem::new(Exit::Usage, message).remedy(excess.help()));
    }
    let allowance = asked.or(&defaults(configuration)).at_most(&configuration.ceilings);
    Ok(enforced(&allowance))
}

/// Thousandths of a processor as processors.
#[expect(clippy::cast_precision_loss, reason = "thousandths of processors are few")]
pub(crate) fn processors(millicpus: u64) -> f64 {
    millicpus as f64 / 1000.0
}

/// What the operator has decided for all jobs.
pub(crate) fn policy(configuration: &Configuration) -> Policy {
    let limits = |downgrade: &Spanned<Downgrade>| match downgrade.value {
        Downgrade::Memory => vec![Limit::Memory],
        Downgrade::Swap => vec![Limit::Swap],
        Downgrade::Pids => vec![Limit::Pids],
        Downgrade::Cpus => vec![Limit::Cpu],
        Downgrade::Devices => vec![Limit::Devices],
        Downgrade::Io => vec![Limit::IoRead, Limit::IoWrite],
    };
    let i386 = configuration.i386.as_ref().is_some_and(|allowed| allowed.value);
    Policy {
        dispensable: configuration.downgrades.iter().flat_map(limits).collect(),
        foreign_abi: if i386 { ForeignAbi::AllowI386 } else { ForeignAbi::Kill },
    }
}

/// Says what jobs go without on this host, each time: nobody shall believe in a limit that is not
/// there.
pub(crate) fn tell_missing(sandbox: &Sandbox) {
    for limit in sandbox.without() {
        print::standard_error(format_args!(
            "cofferdam: this host cannot enforce the limit `{limit}`; jobs go without it, as the \
             configuration allows"
        ));
    }
}
