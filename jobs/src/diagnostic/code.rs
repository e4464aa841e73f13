//! The stable codes of all faults.

use std::fmt;

macro_rules! codes {
    ($($name:ident = $code:literal, $summary:literal;)*) => {
        /// The kind of a fault. A code keeps its meaning for ever; a fault that no longer exists
        /// leaves a gap. 01xx: the text; 02xx: the shape; 03xx: names and the graph of jobs;
        /// 04xx: expressions; 05xx: parameters and the plan; 07xx: Dockerfiles. `W` marks warnings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $summary] $name,)*
        }

        impl Code {
            /// All codes, for documentation and for formats that list their rules.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as people see it, such as `E0101`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What the code stands for, in one sentence.
            pub fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)* }
            }
        }
    };
}

codes! {
    FileTooLong = "E0101", "The file is longer than 1 MiB.";
    NotText = "E0102", "The file is not UTF-8 text, or holds control characters.";
    Syntax = "E0103", "The file is not YAML.";
    TooDeep = "E0104", "Values are nested deeper than 64 levels.";
    TooManyNodes = "E0105", "The file has more than 200 000 values.";
    AliasBudget = "E0106", "The aliases expand to more than 200 000 values.";
    DuplicateKey = "E0107", "A key is given twice in one mapping.";
    UnknownTag = "E0108", "A YAML tag has no meaning here.";
    ManyDocuments = "E0109", "The file holds more than one YAML document.";
    BadKey = "E0110", "A key is not a short string.";
    RecursiveAlias = "E0111", "An alias is part of its own value.";
    BadMerge = "E0112", "The value of a merge key is not a mapping.";
    Empty = "E0113", "The file is empty.";
    TooManyFaults = "E0199", "There may be more faults than are shown.";
    UnknownKey = "E0201", "A key is not known here.";
    WrongType = "E0202", "A value has the wrong type.";
    MissingKey = "E0203", "A key that is needed is missing.";
    BadValue = "E0204", "A value is not one of those allowed.";
    BadQuantity = "E0205", "A size, a count, a duration or a rate cannot be read.";
    Conflict = "E0206", "Two keys exclude each other.";
    BadName = "E0301", "A name uses characters that are not allowed, or is too long.";
    UnknownJob = "E0302", "A job that is named does not exist.";
    NeedsCycle = "E0303", "Jobs need each other in a circle.";
    UnknownStep = "E0304", "A step that is named does not exist or comes later.";
    DuplicateName = "E0305", "A name is used twice.";
    UnknownSecret = "E0306", "A secret is used that the pipeline does not declare.";
    BadPath = "E0307", "A path leaves the place it must stay in.";
    BadInclude = "E0308", "A file cannot be included.";
    ImageCycle = "E0309", "Images are made from each other in a circle.";
    ExpressionSyntax = "E0401", "An expression cannot be read.";
    ExpressionTooLarge = "E0402", "An expression is too long or too deep.";
    UnknownContext = "E0403", "A context does not exist, or not in this place.";
    UnknownProperty = "E0404", "A context has no value of this name.";
    UnknownFunction = "E0405", "A function does not exist.";
    WrongArguments = "E0406", "A function is given the wrong arguments.";
    StatusOutsideIf = "E0407", "A status function is used outside `if`.";
    SecretInCommand = "E0408", "A secret is put into the text of a command.";
    EvaluationFailed = "E0409", "An expression has no value.";
    UnknownParameter = "E0501", "A parameter is given that the pipeline does not declare.";
    MissingParameter = "E0502", "A parameter without a default is not given.";
    BadParameter = "E0503", "A parameter has a value that is not among its options.";
    MatrixTooLarge = "E0504", "A matrix expands to more than 256 jobs.";
    MatrixEmpty = "E0505", "A matrix expands to no job at all.";
    UnknownJobSelected = "E0506", "The job to run does not exist.";
    TooManyJobs = "E0507", "The pipeline expands to more than 10 000 jobs.";
    ExceedsCapacity = "E0508", "A job asks for more than there is in all.";
    Unsupported = "E0509", "This version cannot run what the key asks for.";
    ExceedsCeiling = "E0510", "A job asks for more than the operator allows.";
    Injection = "W0601", "A value that the author does not control becomes part of a script.";
    UnusedExclude = "W0602", "An `exclude` entry matches no combination of the matrix.";
    RetryNever = "W0603", "A `retry` can never happen.";
    UnusedImage = "W0604", "No job uses an image of the pipeline.";
    NearImage = "W0605", "The name of an image is nearly that of one of the pipeline.";
    ReservedVariable = "W0606", "A variable is set that Cofferdam sets itself.";
    ConditionNever = "W0607", "An `if` never holds.";
    DockerfileInstruction = "E0701", "An instruction of a Dockerfile is not known.";
    DockerfileArguments = "E0702", "An instruction has too few, too many or wrong arguments.";
    DockerfileFlag = "E0703", "A flag of an instruction is not known, or has a bad value.";
    DockerfileOrder = "E0704", "An instruction is missing, or not allowed in this place.";
    DockerfileStage = "E0705", "A stage does not exist, or its name cannot be used.";
    DockerfileSubstitution = "E0706", "Quotes or a variable substitution cannot be read.";
    DockerfileHeredoc = "E0707", "A here-document has no end.";
    DockerfileUnsupported = "E0708", "This version cannot build what an instruction asks for.";
    DockerfileTooLarge = "E0709", "A part of a Dockerfile is larger than allowed.";
    DockerfileDirective = "E0710", "A parser directive of a Dockerfile has no meaning here.";
    DockerfilePath = "E0711", "A path leaves the build context.";
    DockerfilePattern = "E0713", "A pattern of an ignore file cannot be read.";
    DockerfileUnsetRequired = "E0712", "A variable that a Dockerfile needs is not set.";
    DockerfileDeprecated = "W0720", "An instruction is deprecated.";
    DockerfileNotJson = "W0721", "What looks like a list is not JSON.";
    DockerfileUnset = "W0722", "A variable is not set, and becomes nothing.";
    DockerfileDropped = "W0723", "An escape character in a here-document is dropped.";
    DockerfileUnusedArgument = "W0724", "No `ARG` takes a value that is given.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_well_formed() {
        let mut codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Code::ALL.len());
        for code in codes {
            let (kind, digits) = code.split_at(1);
            assert!(matches!(kind, "E" | "W") && digits.len() == 4, "{code}");
        }
    }
}
