//! The names that an expression can look values up in.

/// Where values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// The environment as the pipeline sets it up to here.
    Env,
    /// What the caller chose, or the defaults.
    Params,
    /// This combination of the matrix.
    Matrix,
    /// The jobs that this one needs: `result` and `outputs`.
    Needs,
    /// The earlier steps of this job: `outcome`, `conclusion`, `outputs`.
    Steps,
    /// This job: `id`, `name`, `status`, `attempt`, `index`, `total`.
    Job,
    /// Declared secrets, as the caller gave them.
    Secrets,
    /// This run.
    Run,
    /// The commit that is tested.
    Git,
}

impl Context {
    /// All contexts.
    pub const ALL: [Self; 9] = [
        Self::Env,
        Self::Params,
        Self::Matrix,
        Self::Needs,
        Self::Steps,
        Self::Job,
        Self::Secrets,
        Self::Run,
        Self::Git,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::Params => "params",
            Self::Matrix => "matrix",
            Self::Needs => "needs",
            Self::Steps => "steps",
            Self::Job => "job",
            Self::Secrets => "secrets",
            Self::Run => "run",
            Self::Git => "git",
        }
    }

    /// The context of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|context| context.as_str() == name)
    }

    /// The names it has in every pipeline; [`None`] where these depend on the pipeline.
    pub fn fixed_names(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Job => Some(&["id", "name", "status", "attempt", "index", "total"]),
            Self::Run => Some(&["id", "pipeline"]),
            Self::Git => Some(&["commit", "ref", "branch", "tag"]),
            _ => None,
        }
    }
}
