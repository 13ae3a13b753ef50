// Package plugin demands a header, and a body of one media type that is not too long.
package plugin

import (
	"strconv"
	"strings"

	"tidegate"
)

func init() { tidegate.Export(configure) }

type submission struct {
	Header       string `json:"header"`
	MediaType    string `json:"media-type"`
	BodyBytesMax int    `json:"body-bytes-max"`
}

func configure(configuration tidegate.Configuration) (tidegate.Plugin, error) {
	plugin := submission{Header: "idempotency-key", MediaType: "application/json", BodyBytesMax: 1024}
	err := configuration.Into(&plugin)
	return plugin, err
}

// Reads has the host hand these over with each call, which costs half of what asking for them does.
func (plugin submission) Reads() []tidegate.Reading {
	return []tidegate.Reading{tidegate.ReadHeader(plugin.Header), tidegate.ReadHeader("content-type")}
}

// Validate decides on the request in hand.
func (plugin submission) Validate() (tidegate.Validity, error) {
	if _, there := tidegate.Given(0); !there {
		return tidegate.InvalidParameters("the header " + plugin.Header + " is missing"), nil
	}
	contentType, _ := tidegate.Given(1)
	mediaType, _, _ := strings.Cut(contentType, ";")
	if !strings.EqualFold(strings.TrimSpace(mediaType), plugin.MediaType) {
		return tidegate.UnsupportedMediaType(), nil
	}
	if len(tidegate.RequestBody()) > plugin.BodyBytesMax {
		return tidegate.InvalidBody("the body is over " + strconv.Itoa(plugin.BodyBytesMax) + " bytes"), nil
	}
	return tidegate.Valid(), nil
}
