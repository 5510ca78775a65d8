package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/infra"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

func newOnsd() *cobra.Command {
	var addr, data string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "onsd",
		Short: "Serve the stand-in of the ONS OpenAPI on loopback",
		Long: `Serve the stand-in of the ONS OpenAPI on loopback until interrupted. Any ONS SDK
of any language can call it; keys, instances, messages, quotas and faults come
from the data file (format: infra/local/onsd/README.md).`,
		Example: "  repush onsd --listen 127.0.0.1:8680 --data infra/local/demo.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := startStandIn(addr, data)
			if err != nil {
				return err
			}
			defer api.Close()
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"ons": api.URL})
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "ONS OpenAPI stand-in  %s  (region %s, access key %s)\nwhat reached consumers  curl %s/_onsd/deliveries\n",
					api.URL, api.data.Region, api.data.Credentials[0].AccessKeyID, api.URL)
			}
			if err == nil {
				<-cmd.Context().Done()
			}
			return err
		},
	}
	cmd.Flags().StringVar(&addr, "listen", "127.0.0.1:8680", "loopback address and port")
	cmd.Flags().StringVar(&data, "data", "", "data file; empty means the sample data set")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object with the address")
	return cmd
}

func newUp() *cobra.Command {
	var addr, data, bin string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Keep the stand-in and the function running, for curl",
		Long: `Keep the stand-in of the ONS OpenAPI and the function, as a plain HTTP server,
running on loopback until interrupted. Result events appear on standard output,
the function's log on standard error. What cannot be decided waits in the ledger,
and is taken up again every minute, or by the command that is shown.`,
		Example: "  repush up",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, say := cmd.OutOrStdout(), notes(cmd.ErrOrStderr())
			built, err := prepare(cmd.Context(), repushFunction, bin, say)
			if err != nil {
				return err
			}
			defer built.remove()
			api, err := startStandIn(addr, data)
			if err != nil {
				return err
			}
			defer api.Close()
			f, err := startHTTP(cmd.Context(), built.binary, append(api.env(), built.state()), out, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer f.stop()
			if asJSON {
				_ = json.NewEncoder(out).Encode(map[string]string{"ons": api.URL, "function": f.URL})
				say = func(string, ...any) {}
			}
			say("ONS OpenAPI stand-in    %s", api.URL)
			say("function                %s", f.URL)
			say("push a message          curl %s/ -H 'Content-Type: application/json' -d '%s'", f.URL, sampleRequest(api.data))
			say("finish what waits       curl %s/ -H 'Content-Type: application/json' -d '%s'", f.URL, sweepEvent())
			say("what reached consumers  curl %s/_onsd/deliveries", api.URL)
			select {
			case <-cmd.Context().Done():
				return nil
			case err := <-f.done:
				f.done <- err
				return fmt.Errorf("the function ended: %v", err)
			}
		},
	}
	cmd.Flags().StringVar(&addr, "listen", "127.0.0.1:0", "loopback address and port of the stand-in")
	cmd.Flags().StringVar(&data, "data", "", "data file; empty means the sample data set")
	cmd.Flags().StringVar(&bin, "bin", "", "a built function instead of the source")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object with the addresses, then only result events")
	return cmd
}

type standIn struct {
	*onsd.Server
	*onsd.Endpoint
	data *onsd.Data
}

// startStandIn serves the data of a file on addr; the sample data set if file is
// empty.
func startStandIn(addr, file string) (*standIn, error) {
	raw := infra.DemoData
	if file != "" {
		var err error
		if raw, err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	data, err := onsd.Load(raw)
	if err != nil {
		return nil, fmt.Errorf("stand-in data: %w", err)
	}
	if len(data.Credentials) == 0 {
		return nil, fmt.Errorf("stand-in data: credentials: name at least one access key")
	}
	server, err := onsd.New(data, onsd.Options{})
	if err != nil {
		return nil, err
	}
	endpoint, err := server.Listen(addr, false)
	return &standIn{Server: server, Endpoint: endpoint, data: data}, err
}

// env is what a function needs to work against the stand-in.
func (s *standIn) env() []string {
	key := s.data.Credentials[0]
	return []string{
		"REPUSH_REGION=" + s.data.Region, "REPUSH_ONS_ENDPOINT=" + s.URL, "REPUSH_ALLOW=*/*/*",
		"ALIBABA_CLOUD_ACCESS_KEY_ID=" + key.AccessKeyID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET=" + key.AccessKeySecret,
		"ALIBABA_CLOUD_SECURITY_TOKEN=" + key.SecurityToken,
	}
}
