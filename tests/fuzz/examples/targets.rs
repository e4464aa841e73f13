//! Lists the targets for `run`: name, longest input, folders of seeds.

#![expect(clippy::print_stdout, reason = "it is for a script")]

fn main() {
    for target in cofferdam_fuzz::TARGETS {
        println!("{} {} {}", target.name, target.longest, target.seeds.join(" "));
    }
}
