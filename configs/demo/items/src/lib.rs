//! The sample's function: items in a table.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /items?limit=&cursor=` | 200 `{"items": […], "cursor": "…"}`; `cursor` where there are more |
//! | `POST /items` | 201 and `Location`; an `id` is made where the item has none; 409 where there is one of this id |
//! | `GET /items/{id}` | 200, or 404 |
//! | `PUT /items/{id}` | 200 replaced, 201 created |
//! | `DELETE /items/{id}` | 204, also where there was none |
//!
//! It is a component of the standard `wasi:http` 0.2 and `wasi:keyvalue` 0.2.0-draft, with nothing of Tidegate's but the
//! header that names the table. [`call`] and [`item`] decide; `component` moves the bytes. Nothing is kept between
//! requests, so one instance may serve many.

pub mod call;
#[cfg(target_family = "wasm")]
mod component;
pub mod item;
