//! Where records lie once they are written: reading, checking, copying and exporting them.
