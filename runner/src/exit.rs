//! Exit statuses of the binary: the documented contract with scripts.
//!
//! 64 to 78 are those of sysexits.h(3head); 124 to 127 are those of timeout(1) and docker-run(1).

use std::process::ExitCode;

/// How the process ends, apart from passing on a program's own status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything passed.
    Passed,
    /// A job failed by its own doing.
    Failed,
    /// The command line is wrong.
    Usage,
    /// The pipeline file has faults (EX_DATAERR).
    Data,
    /// A named file or image does not exist, or cannot be read (EX_NOINPUT).
    NoInput,
    /// The host failed: nothing that the author of a job can do (EX_SOFTWARE).
    System,
    /// The operator's configuration cannot be read, or has faults (EX_CONFIG).
    Configuration,
    /// Time ran out.
    TimedOut,
    /// `exec`: the container could not be put up.
    NotStarted,
    /// `exec`: the program was found and cannot be executed.
    NotExecutable,
    /// `exec`: there is no such program.
    NotFound,
    /// Nobody reads its output any more (128 + SIGPIPE).
    Unread,
    /// It was cancelled (128 + SIGINT).
    Cancelled,
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Data => 65,
            Self::NoInput => 66,
            Self::System => 70,
            Self::Configuration => 78,
            Self::TimedOut => 124,
            Self::NotStarted => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Unread => 141,
            Self::Cancelled => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
