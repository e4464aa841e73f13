//! Control groups: limits and usage on the v2, v1 and hybrid layouts.
