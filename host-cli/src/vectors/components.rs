//! One vector as a JSON list of numbers.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use crate::json::Place;

/// The components of one vector, appended to those read before.
pub(crate) struct ComponentsVisitor<'a> {
    pub(crate) place: &'a Place,
    pub(crate) components: &'a mut Vec<f32>,
}

impl<'de> DeserializeSeed<'de> for ComponentsVisitor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ComponentsVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        self.visit_rest(0, list)
    }
}

impl ComponentsVisitor<'_> {
    /// Reads the components of a list from number `from` on.
    pub(crate) fn visit_rest<'de, A: SeqAccess<'de>>(self, from: usize, mut list: A) -> Result<(), A::Error> {
        for index in from.. {
            self.place.enter_item("component", index);
            match list.next_element_seed(Component)? {
                Some(component) => self.components.push(component),
                None => break,
            }
        }
        Ok(())
    }
}

/// One component: the `f32` nearest to the decimal number, rounded once; the parser refuses what overflows.
pub(crate) struct Component;

impl<'de> DeserializeSeed<'de> for Component {
    type Value = f32;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f32, D::Error> {
        deserializer.deserialize_f32(self)
    }
}

impl Visitor<'_> for Component {
    type Value = f32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a finite number")
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "the parser has rounded the decimal number to f32 already"
    )]
    fn visit_f64<E: de::Error>(self, component: f64) -> Result<f32, E> {
        Ok(component as f32)
    }

    fn visit_u64<E: de::Error>(self, component: u64) -> Result<f32, E> {
        Ok(component as f32)
    }

    fn visit_i64<E: de::Error>(self, component: i64) -> Result<f32, E> {
        Ok(component as f32)
    }
}
