//! The combinations of a matrix.
//!
//! First the product of the axes, the last axis fastest; then what `exclude` matches is taken
//! away; then each entry of `include` is added to every combination whose axes it agrees with, or
//! becomes a combination of its own when there is none.

use crate::{
    diagnostic::{Code, Diagnostic, Report},
    expr::{Data, Value},
    model::Matrix,
};

/// The most jobs that one matrix makes.
const MAX_COMBINATIONS: usize = 256;

/// The most values that the combinations of one matrix hold together: a large value that is put
/// into each of them is written once in the file.
const MAX_VALUES: usize = 20_000;

/// One combination: names and values, axes first.
pub(crate) type Combination = Vec<(String, Value)>;

/// All combinations; empty when there was a fault.
pub(crate) fn expand(matrix: &Matrix, report: &mut Report) -> Vec<Combination> {
    let size = matrix
        .axes
        .iter()
        .fold(1_usize, |product, (_, values)| product.saturating_mul(values.len()));
    if size > MAX_COMBINATIONS {
        report.push(too_large(matrix, size));
        return Vec::new();
    }
    let values = matrix.axes.iter().fold(0_usize, |sum, (_, values)| {
        let weight: usize = values.iter().map(|value| weight(&value.value)).sum();
        sum.saturating_add((weight * size).checked_div(values.len()).unwrap_or(0))
    });
    let mut budget = MAX_VALUES.saturating_sub(values);
    if budget == 0
        || matrix.include.len() > MAX_COMBINATIONS
        || matrix.exclude.len() > MAX_COMBINATIONS
    {
        report.push(too_many_values(matrix));
        return Vec::new();
    }
    if size == 0 {
        // An axis without values was refused when it was read.
        return Vec::new();
    }
    let mut combinations: Vec<Combination> = Vec::new();
    if !matrix.axes.is_empty() {
        combinations.push(Vec::new());
    }
    for (name, values) in &matrix.axes {
        combinations = combinations
            .iter()
            .flat_map(|before| {
                values.iter().map(move |value| {
                    let mut combination = before.clone();
                    combination.push((name.value.clone(), value.value.clone()));
                    combination
                })
            })
            .collect();
    }
    for exclude in &matrix.exclude {
        let before = combinations.len();
        let wanted = entries(&exclude.value);
        combinations.retain(|combination| {
            !wanted
                .iter()
                .all(|(name, value)| get(combination, name).is_some_and(|has| has == value))
        });
        // A name that is no axis is an error of its own.
        let named = |name: &str| matrix.axes.iter().any(|(axis, _)| axis.value == name);
        if combinations.len() == before && wanted.iter().all(|(name, _)| named(name)) {
            report.push(
                Diagnostic::warning(Code::UnusedExclude, "this matches no combination")
                    .at(exclude.span, "")
                    .help("remove it, or write the values as the axes do"),
            );
        }
    }
    if !include(matrix, &mut combinations, &mut budget) {
        report.push(too_many_values(matrix));
        return Vec::new();
    }
    if combinations.len() > MAX_COMBINATIONS {
        report.push(too_large(matrix, combinations.len()));
        return Vec::new();
    }
    if combinations.is_empty() {
        report.push(
            Diagnostic::error(Code::MatrixEmpty, "the matrix has no combination")
                .at(matrix.span, "")
                .help("add an axis or an `include`, or exclude less"),
        );
    }
    combinations
}

/// Adds the entries of `include`; false when they take more than `budget`.
fn include(matrix: &Matrix, combinations: &mut Vec<Combination>, budget: &mut usize) -> bool {
    let products = combinations.len();
    for include in &matrix.include {
        let added = entries(&include.value);
        let weight = weight(&include.value);
        let is_axis = |name: &str| matrix.axes.iter().any(|(axis, _)| axis.value == name);
        let mut found = false;
        for combination in combinations.iter_mut().take(products) {
            let agrees = added
                .iter()
                .filter(|(name, _)| is_axis(name))
                .all(|(name, value)| get(combination, name).is_some_and(|has| has == value));
            if !agrees {
                continue;
            }
            found = true;
            let Some(rest) = budget.checked_sub(weight) else { return false };
            *budget = rest;
            for (name, value) in added {
                match combination.iter_mut().find(|(has, _)| has == name) {
                    Some((_, has)) => *has = value.clone(),
                    None => combination.push((name.clone(), value.clone())),
                }
            }
        }
        if !found {
            let Some(rest) = budget.checked_sub(weight) else { return false };
            *budget = rest;
            combinations.push(added.to_vec());
        }
    }
    true
}

/// How many values there are in a value. What the file can hold bounds the depth.
fn weight(value: &Value) -> usize {
    match &value.data {
        Data::List(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Data::Map(entries) => 1 + entries.iter().map(|(_, value)| weight(value)).sum::<usize>(),
        _ => 1,
    }
}

fn entries(value: &Value) -> &[(String, Value)] {
    match &value.data {
        Data::Map(entries) => entries,
        _ => &[],
    }
}

fn get<'a>(combination: &'a Combination, name: &str) -> Option<&'a Value> {
    combination.iter().find(|(has, _)| has == name).map(|(_, value)| value)
}

fn too_large(matrix: &Matrix, size: usize) -> Diagnostic {
    Diagnostic::error(
        Code::MatrixTooLarge,
        format!("the matrix has {size} combinations, at most {MAX_COMBINATIONS} are allowed"),
    )
    .at(matrix.span, "")
    .help("split the job, or let one job do several of the combinations")
}

fn too_many_values(matrix: &Matrix) -> Diagnostic {
    Diagnostic::error(
        Code::MatrixTooLarge,
        format!("the combinations of the matrix hold more than {MAX_VALUES} values in all"),
    )
    .at(matrix.span, "")
    .help("put what is large into a file of the project, and its name into the matrix")
}
