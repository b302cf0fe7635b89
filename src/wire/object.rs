use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::fmt;

/// A JSON object of which only the first level was read: fields keep their order, and the bytes of values that
/// nobody touches stay as they came, however long they are.
#[derive(Clone, Debug, Default)]
pub struct Object(Vec<(String, Box<RawValue>)>);

impl Object {
    /// Reads an object; of a key that comes twice the last value counts, as in Python.
    ///
    /// # Errors
    /// When it is not JSON, or no object.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The value of `key`, as JSON.
    pub fn raw(&self, key: &str) -> Option<&RawValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }

    /// The value of `key`, if it is there and a `T`.
    pub fn get<'a, T: Deserialize<'a>>(&'a self, key: &str) -> Option<T> {
        self.raw(key).and_then(|value| serde_json::from_str(value.get()).ok())
    }

    /// Whether `key` is there with a value other than null.
    pub fn has(&self, key: &str) -> bool {
        self.raw(key).is_some_and(|value| value.get() != "null")
    }

    /// Sets `key`, in its place where it is there, else at the end.
    pub fn set(&mut self, key: &str, value: impl Serialize) {
        self.set_raw(key, to_raw_value(&value).expect("numbers, texts and lists of them are JSON"));
    }

    /// Sets `key` to a value that is JSON already.
    pub fn set_raw(&mut self, key: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, place)) => *place = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(name, _)| name != key);
    }

    /// The object as JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an object of JSON values is JSON")
    }
}

/// Most fields of an object: a request has some thirty.
const MOST_FIELDS: usize = 1024;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut object = Object::default();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    object.set_raw(&key, value);
                    // Each key is compared with all before it.
                    if MOST_FIELDS < object.0.len() {
                        return Err(serde::de::Error::custom(format!("more than {MOST_FIELDS} fields")));
                    }
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_touches_keeps_its_bytes_and_its_place() {
        let mut object =
            Object::parse(br#" {"a": 1.50 ,"prompt": "x\u00e9 \/", "n": null, "a": [ 1,2 ]} "#).unwrap();
        object.set("n", 1);
        object.set("z", "q\"");
        assert_eq!(object.to_bytes(), br#"{"a":[ 1,2 ],"prompt":"x\u00e9 \/","n":1,"z":"q\""}"#);
        object.remove("a");
        assert_eq!((object.get::<u32>("n"), object.get::<u32>("z"), object.has("a")), (Some(1), None, false));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let crowd: Vec<String> = (0..2000).map(|nth| format!("\"{nth}\":1")).collect();
        assert!(Object::parse(format!("{{{}}}", crowd.join(",")).as_bytes()).is_err());
        for text in ["", "[1]", "{\"a\":1", "{} x", "null"] {
            assert!(Object::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
