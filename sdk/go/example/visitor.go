// Package plugin lets in who has an API key of the node, or a token that the identity provider has signed (RFC 7519, ES256).
package plugin

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"tidegate"
)

func init() { tidegate.Export(configure) }

type visitor struct {
	Provider string `json:"provider"`
}

func configure(configuration tidegate.Configuration) (tidegate.Plugin, error) {
	var plugin visitor
	err := configuration.Into(&plugin)
	return plugin, err
}

// Reads names what the host hands over.
func (plugin visitor) Reads() []tidegate.Reading {
	return []tidegate.Reading{
		tidegate.ReadHeader("x-api-key"),
		tidegate.ReadHeader("authorization"),
		tidegate.ReadContext("requestTimeEpoch"),
	}
}

// Authorize decides on the request in hand.
func (plugin visitor) Authorize() (tidegate.Verdict, error) {
	if value, there := tidegate.Given(0); there {
		return byKey(value), nil
	}
	authorization, _ := tidegate.Given(1)
	text, bearer := strings.CutPrefix(authorization, "Bearer ")
	token, err := parse(text)
	if !bearer || err != nil {
		return tidegate.Unauthorized("Bearer"), nil
	}
	key, there, err := plugin.findKey(token.header.KeyID)
	if err != nil {
		return tidegate.Verdict{}, err
	}
	time, _ := tidegate.Given(2)
	now, err := strconv.ParseInt(time, 10, 64)
	// An unfit key signs nothing.
	signed, unfit := tidegate.Verify(tidegate.ES256, key, token.message, token.signature)
	if !there || !signed || unfit != nil || token.claims.Expires <= now/1000 {
		return tidegate.Unauthorized("Bearer"), err
	}
	return tidegate.Allow(token.claims.Subject), err
}

func byKey(value string) tidegate.Verdict {
	key, there := tidegate.FindAPIKey(value)
	if !there {
		return tidegate.Forbidden("unknown API key")
	}
	verdict := tidegate.Allow(key.Name)
	verdict.UsageIdentifierKey = key.ID
	return verdict
}

// findKey is the provider's key of this id; one that is new may not be in the set that the node keeps.
func (plugin visitor) findKey(id string) (key json.RawMessage, there bool, err error) {
	for _, refresh := range []bool{false, true} {
		keys, err := tidegate.FetchKeys(plugin.Provider, refresh)
		if err != nil {
			return nil, false, err
		}
		if key, there = keys.Find(id); there {
			break
		}
	}
	return key, there, nil
}

type token struct {
	header struct {
		KeyID string `json:"kid"`
	}
	claims struct {
		Subject string `json:"sub"`
		Expires int64  `json:"exp"`
	}
	signature []byte
	message   []byte // what the signature is over
}

func parse(text string) (token, error) {
	var made token
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return made, errors.New("a token has three parts")
	}
	var err error
	made.message = []byte(parts[0] + "." + parts[1])
	made.signature, err = base64.RawURLEncoding.DecodeString(parts[2])
	return made, errors.Join(err, into(parts[0], &made.header), into(parts[1], &made.claims))
}

func into(part string, target any) error {
	decoded, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(decoded, target)
}
