//! Policy text to [`Policy`](super::Policy), collecting every mistake with its line.
