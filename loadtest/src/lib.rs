//! Mock provider and load tools.
