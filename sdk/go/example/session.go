// Package plugin lets in who has a session: it asks the service that keeps them, and remembers for a minute what that said.
package plugin

import (
	"encoding/json"
	"errors"
	"fmt"

	"tidegate"
)

func init() { tidegate.Export(configure) }

type session struct {
	Service string `json:"service"`
}

const rememberedMs = 60_000

func configure(configuration tidegate.Configuration) (tidegate.Plugin, error) {
	var plugin session
	err := configuration.Into(&plugin)
	return plugin, err
}

// Reads names what the host hands over.
func (plugin session) Reads() []tidegate.Reading {
	return []tidegate.Reading{tidegate.ReadHeader("x-session"), tidegate.ReadMethod()}
}

// Authorize decides on the request in hand.
func (plugin session) Authorize() (tidegate.Verdict, error) {
	token, there := tidegate.Given(0)
	if !there {
		return tidegate.Unauthorized("Session"), nil
	}
	if method, _ := tidegate.Given(1); method == "DELETE" {
		tidegate.CacheDelete(token) // after this request there is no such session
	}
	if id, there := tidegate.CacheGet(token); there {
		tidegate.Count("remembered", 1)
		return tidegate.Allow(string(id)), nil
	}
	tidegate.Count("asked", 1)
	id, err := plugin.ask(token)
	if id == "" || err != nil {
		return tidegate.Forbidden("no such session"), err
	}
	tidegate.CacheSet(token, []byte(id), rememberedMs)
	return tidegate.Allow(id), nil
}

// ask says whose session it is; nobody's where there is none of this token.
func (plugin session) ask(token string) (string, error) {
	secret, there := tidegate.Secret("sessions")
	if !there {
		return "", errors.New("the node has no secret `sessions`")
	}
	headers := []tidegate.Field{{Name: "authorization", Value: "Bearer " + secret}}
	answer, err := tidegate.Send("POST", plugin.Service, headers, []byte(token), 2000)
	if err != nil {
		return "", err
	}
	switch answer.Status {
	case 200:
		var known struct {
			ID string `json:"id"`
		}
		err := json.Unmarshal(answer.Body, &known)
		return known.ID, err
	case 404:
		return "", nil
	}
	return "", fmt.Errorf("the service answered %d", answer.Status)
}
